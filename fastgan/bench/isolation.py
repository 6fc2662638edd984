"""Variants in processes of their own: a torch.compile that hangs or crashes does no harm there, and memory is counted
from a clean start. It is made the same way here and there."""

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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from fastgan.bench import launches
from fastgan.bench.timing import WARM, Row, failure, interleaved, rows
from fastgan.bench.variants import Suite, Variant, find
from fastgan.messages import log


class Failed(RuntimeError):
    """A variant that did not finish, and why."""


_running: set[subprocess.Popen[Any]] = set()


def run(
    module: str, name: str, arguments: tuple[Any, ...], *, calls: int = 2, limit: float = 600.0
) -> dict[str, float]:
    """Makes a variant of the module's SUITE in a new process and calls it `calls` times. Returns "built MB", what the
    process held before the first call, and "peak MB", the most that it held. Failed after `limit` seconds, or with the
    error's last line.
    """
    job = json.dumps([module, name, arguments, calls, torch.get_num_threads()])
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
    """Variants to measure, the first of which ratios refer to, and those that failed.

    arguments: of what makes each, numbers and strings.
    """

    suite: Suite
    variants: Sequence[Variant]
    arguments: tuple[Any, ...]
    device: str = "cpu"
    calls: dict[str, Callable[[], Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, variant: Variant, **how: Any) -> dict[str, float]:
        return run(self.suite.module, variant.name, self.arguments, **how)

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
            for variant in self.variants:
                if variant.name in measured and variant.role != "compiled":
                    held = self.run(variant, calls=WARM if self.device == "cuda" else 3)
                    row, megabytes = measured[variant.name], round(held["peak MB"] - held["built MB"], 1)
                    measured[variant.name] = replace(row, facts={**row.facts, "step MB": megabytes})
        for name, reason in self.failed.items():
            measured[name] = failure(case, name, reason, facts)
        return [_described(measured[variant.name], variant) for variant in self.variants]


def _described(row: Row, variant: Variant) -> Row:
    own = {name: value for name, value in (("dtype", variant.dtype), ("layout", variant.layout)) if value}
    return replace(row, role=variant.role, facts={**row.facts, **own})


def ready(
    suite: Suite,
    variants: Sequence[Variant],
    arguments: tuple[Any, ...] = (),
    limit: float = 600.0,
    device: str = "cpu",
) -> Ready:
    """Makes all variants. Compiled ones are first tried apart, for at most `limit` seconds, and must give the losses of
    their baselines at the first call. On CUDA all of them at once: compiling keeps the processor busy, not the device.
    """
    result = Ready(suite, variants, arguments, device)
    compiled = [variant for variant in variants if variant.role == "compiled"]
    expected: dict[str, list[float]] = {}
    for variant in variants:
        if variant.role != "compiled":
            result.calls[variant.name] = variant.make(*arguments)
        if any(variant.name == other.baseline for other in compiled):
            expected[variant.name] = _first(result.calls[variant.name])
    trials = ThreadPoolExecutor(max_workers=len(compiled) or 1 if device == "cuda" else 1)
    with _sigterm_raises():
        try:
            tried = [trials.submit(_tried, result, variant, limit) for variant in compiled]
            wait(tried)
        except BaseException:  # Ctrl-C: without their processes, the threads end
            trials.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                _end(process)
            raise
    trials.shutdown()
    for variant, trial in zip(compiled, tried):
        try:
            trial.result()
            call = variant.make(*arguments)
            agree(_first(call), expected[variant.baseline])
        except Exception as error:  # a peer's; whatever it is, the others are measured
            result.failed[variant.name] = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            log.warning("%s failed: %s", variant.name, result.failed[variant.name])
        else:
            result.calls[variant.name] = call
    result.calls = {v.name: result.calls[v.name] for v in variants if v.name in result.calls}
    return result


def _tried(ready: Ready, variant: Variant, limit: float) -> None:
    log.info("compiling: %s, for at most %.0f s", variant.name, limit)
    ready.run(variant, calls=1, limit=limit)


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
    module, name, arguments, calls, threads = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    call = find(module, name).make(*arguments)
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    built = torch.cuda.memory_allocated() / 2**20 if cuda else _memory("VmRSS")
    for _ in range(calls):
        call()
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else _memory("VmHWM")
    print(json.dumps({"built MB": built, "peak MB": peak}))


if __name__ == "__main__":
    main()
