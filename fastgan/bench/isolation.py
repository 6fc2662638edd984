"""Variants in processes of their own: a torch.compile that hangs or crashes does no harm there, and memory is counted
from a clean start.

A variant is named by its maker, "module:function", and the maker's arguments; it is made the same way here and there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from fastgan.bench import launches
from fastgan.bench.timing import WARM, Row, failure, interleaved, rows
from fastgan.messages import log


class Failed(RuntimeError):
    """A variant that did not finish, and why."""


_running: set[subprocess.Popen[Any]] = set()


def make(maker: str, arguments: tuple[Any, ...]) -> Callable[[], Any]:
    module, _, name = maker.partition(":")
    return getattr(import_module(module), name)(*arguments)


def run(maker: str, arguments: tuple[Any, ...], *, calls: int = 2, limit: float = 600.0) -> dict[str, float]:
    """Makes a variant in a new process and calls it `calls` times. Returns "built MB", what the process held before
    the first call, and "peak MB", the most that it held. Failed after `limit` seconds, or with the error's last line.
    """
    job = json.dumps([maker, arguments, calls, torch.get_num_threads()])
    # Files, not pipes: those would stay open as long as a process that torch.compile started.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, "-m", "fastgan.bench.isolation", job]
        with _sigterm_raises():
            process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
            _running.add(process)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                raise Failed(f"not ready after {limit:.0f} s") from None
            finally:
                _running.discard(process)
                _end(process)
        out.seek(0)
        err.seek(0)
        printed, said = out.read().strip().splitlines(), err.read().strip().splitlines()
    if process.returncode < 0:
        raise Failed(f"ended by signal {-process.returncode}")
    if process.returncode > 0:
        raise Failed(said[-1] if said else f"ended with exit code {process.returncode}")
    return json.loads(printed[-1])


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends this process by way of what it has started, which is in sessions of its own."""

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _end(process: subprocess.Popen[Any]) -> None:
    """Ends a process and those that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()


@dataclass
class Ready:
    """Variants to measure, the first of which ratios refer to, and those that failed."""

    maker: str
    arguments: Mapping[str, tuple[Any, ...]]
    calls: dict[str, Callable[[], Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"

    def rows(self, case: str, facts: dict[str, Any], images: int, rounds: int, memory: bool) -> list[Row]:
        """Measures: times interleaved here, then the memory of each variant but torch.compile's, whose processes hold
        the compiler's memory as well."""
        times = interleaved(self.calls, rounds=rounds, device=self.device)
        measured = {row.variant: row for row in rows(case, times, facts, images)}
        if self.device == "cuda":
            for name, call in self.calls.items():
                row = measured[name]
                measured[name] = replace(row, facts={**row.facts, **launches.count(call)})
        if memory:
            self.calls.clear()
            for name in measured:
                if not name.startswith("compile"):
                    row, held = (
                        measured[name],
                        run(self.maker, self.arguments[name], calls=WARM if self.device == "cuda" else 3),
                    )
                    megabytes = round(held["peak MB"] - held["built MB"], 1)
                    measured[name] = replace(row, facts={**row.facts, "step MB": megabytes})
        for name, reason in self.failed.items():
            measured[name] = failure(case, name, reason, facts)
        return [measured[name] for name in self.arguments if name in measured]


def ready(
    maker: str,
    variants: Mapping[str, tuple[Any, ...]],
    compiled: Mapping[str, str] | None = None,
    limit: float = 600.0,
    device: str = "cpu",
) -> Ready:
    """Makes all variants. `compiled`: those that call torch.compile, each with the eager variant whose results, a
    sequence of losses, it must give at the first call; they are first tried apart, for at most `limit` seconds. On
    CUDA all of them at once: compiling keeps the processor busy, not the device.
    """
    result = Ready(maker, variants, device=device)
    expected: dict[str, list[float]] = {}
    for name, arguments in variants.items():
        if name not in (compiled or {}):
            result.calls[name] = make(maker, arguments)
        if name in (compiled or {}).values():
            expected[name] = _first(result.calls[name])
    trials = ThreadPoolExecutor(max_workers=len(compiled or ()) or 1 if device == "cuda" else 1)
    with _sigterm_raises():
        try:
            tried = {name: trials.submit(_tried, maker, name, variants[name], limit) for name in compiled or {}}
            wait(tried.values())
        except BaseException:  # Ctrl-C: without their processes, the threads end
            trials.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                _end(process)
            raise
    trials.shutdown()
    for name, eager in (compiled or {}).items():
        try:
            tried[name].result()
            call = make(maker, variants[name])
            agree(_first(call), expected[eager])
        except Exception as error:  # a peer's; whatever it is, the others are measured
            result.failed[name] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            log.warning("%s failed: %s", name, result.failed[name])
        else:
            result.calls[name] = call
    result.calls = {name: result.calls[name] for name in variants if name in result.calls}
    return result


def _tried(maker: str, name: str, arguments: tuple[Any, ...], limit: float) -> None:
    log.info("compiling: %s, for at most %.0f s", name, limit)
    run(maker, arguments, calls=1, limit=limit)


def _first(call: Callable[[], Any]) -> list[float]:
    torch.manual_seed(0)
    return [float(loss) for loss in call()]


def agree(losses: list[float], expected: list[float], tolerance: float = 0.03) -> None:
    """Failed where losses are not alike. The tolerance is that of a step in bfloat16."""
    if not all(abs(a - b) <= tolerance * max(1.0, abs(b)) for a, b in zip(losses, expected)):
        raise Failed(f"its losses are {losses}, eager's {expected}")


def _memory(field: str) -> float:
    """Megabytes of this process: VmRSS, held now, or VmHWM, the most until now."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        try:
            import resource
        except ImportError:  # Windows
            return math.nan
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    # Not ru_maxrss: a process starts with that of the one that started it.
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) / 1024


def main() -> None:
    maker, arguments, calls, threads = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    call = make(maker, tuple(arguments))
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    built = torch.cuda.memory_allocated() / 2**20 if cuda else _memory("VmRSS")
    for _ in range(calls):
        call()
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _memory("VmHWM")
    print(json.dumps({"built MB": built, "peak MB": peak}))


if __name__ == "__main__":
    main()
