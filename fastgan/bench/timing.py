"""Side-by-side timing, and the rows that come of it."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fastgan
from fastgan import backend, strict_json
from fastgan.bench.variants import Role
from fastgan.messages import log
from fastgan.training import graph

WARM = 2 * graph.WARM  # calls of a variant on CUDA before it is measured: steps are recorded after the first half
OURS = "fastgan"  # the variant of ours, in every case of an op


class WrongResult(RuntimeError):
    """A variant's numbers are wrong: its speed is not reported."""


@dataclass(frozen=True)
class Row:
    """One variant of one case. Ratios are against the case's first variant: above 1 is faster."""

    case: str
    variant: str
    milliseconds: float  # median
    spread: float  # interquartile range over the median
    ratio: float  # median over the rounds of (first variant / this one)
    rounds: int
    facts: dict[str, Any]  # of the case: shape, dtype, bytes, FLOP, images a second
    role: Role = "peer"

    @property
    def failed(self) -> str:
        """Why there is no time of it, or ""."""
        return self.facts.get("failed", "")


def failure(case: str, variant: str, reason: str, facts: dict[str, Any]) -> Row:
    """The row of a variant that did not run: its times are 0."""
    return Row(case, variant, 0.0, 0.0, 0.0, 0, {**facts, "failed": reason})


def interleaved(
    variants: dict[str, Callable[[], Any]], *, rounds: int = 9, least: float = 0.004, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds a call of each variant, by round: A B C A B C ... so that a slow moment of the machine hits all alike.

    A measurement repeats a call until it lasts `least` seconds. One round is run before the first to warm up; on CUDA,
    where steps are recorded after some calls, of several calls.
    """
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    least = max(least, 0.02) if device == "cuda" else least  # the wait at the end is part of it
    repeats: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(-1, rounds):
        for name, call in variants.items():
            if round_ < 0:  # compilation, caches; then how often a call fits into `least`
                for _ in range(WARM if device == "cuda" else 1):
                    call()
                wait()
            count = repeats.get(name, 1)
            start = time.perf_counter()
            for _ in range(count):
                call()
            wait()
            seconds = (time.perf_counter() - start) / count
            if round_ < 0:
                repeats[name] = max(1, int(least / max(seconds, 1e-9)))
            else:
                times[name].append(seconds)
    return times


def all_captured(calls: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """Those that can be, without the others, of which the log says why."""
    result = {}
    for name, call in calls.items():
        try:
            result[name] = captured(call)
        except Exception as error:
            log.warning("%s is left out: %s", name, (str(error).splitlines() or [type(error).__name__])[0])
    return result


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """The kernels of a call without the host's part of it: replayed as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(graph.WARM):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        kept = call()

    def replay() -> Any:
        recorded.replay()
        return kept

    return replay


def check_accuracy(
    case: str, ours: Sequence[Tensor], theirs: Sequence[Tensor], exact: Sequence[Tensor], names: Sequence[str]
) -> None:
    """WrongResult where ours is off by more than twice PyTorch's own error against float64, and one ulp."""
    for name, o, t, e in zip(names, ours, theirs, exact):
        error, allowed = (o.double() - e).abs().max(), 2 * (t.double() - e).abs().max()
        if not error <= allowed + torch.finfo(o.dtype).eps * e.abs().max():
            raise WrongResult(f"{case}: {name} is off by {error:.2e}, PyTorch itself by {allowed / 2:.2e}")


def rows(case: str, times: dict[str, list[float]], facts: dict[str, Any], images: int = 0) -> list[Row]:
    """`images`: images a call, for a rate."""
    first = next(iter(times.values()))
    result = []
    for name, seconds in times.items():
        median = statistics.median(seconds)
        low, _, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else (median,) * 3
        rate = {"images/s": round(images / median, 1)} if images else {}
        ratio = statistics.median(a / b for a, b in zip(first, seconds))
        result.append(Row(case, name, median * 1e3, (high - low) / median, ratio, len(seconds), {**facts, **rate}))
    return result


def table(all_rows: Sequence[Row]) -> str:
    cases = list(dict.fromkeys(row.case for row in all_rows))
    width = max((len(row.variant) for row in all_rows), default=0)
    lines = []
    for case in cases:
        lines.append(case)
        lines += [f"  {row.variant:<{width}}  {_figures(row)}" for row in all_rows if row.case == case]
    return "\n".join(lines)


def _figures(row: Row) -> str:
    if row.failed:
        return f"failed: {row.failed}"
    rate = f"  {row.facts['images/s']:>8} images/s" if "images/s" in row.facts else ""
    memory = f"  {row.facts['step MB']:>6.0f} MB" if "step MB" in row.facts else ""
    return f"{row.milliseconds:>10.3f} ms  +-{row.spread / 2:>4.0%}  {row.ratio:>6.2f}x{rate}{memory}"


def signature(facts: dict[str, Any]) -> str:
    """One line for `machine()`."""
    if facts.get("device") == "cuda":
        return f"{facts['cuda']}, torch {facts['torch']}"
    kernels = facts.get("cpu_capability")
    return f"{facts['processor']}, {facts['threads']} threads, torch {facts['torch']}, kernels {kernels}"


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "fastgan": fastgan.__version__,
        "revision": _revision(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "cpu_capability": backend.build_config().get("cpu_capability", "not built"),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **({"device": device, "cuda_version": torch.version.cuda} if device == "cuda" else {}),
    }


def write(path: Path, all_rows: Sequence[Row], device: str = "cpu") -> None:
    path.write_text(
        strict_json.dumps({"machine": machine(device), "rows": [asdict(row) for row in all_rows]}, indent=1) + "\n"
    )


def _revision() -> str | None:
    """The git revision of the source tree, with a + where it has changes; None outside of one."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    name = names.get("model name", platform.machine())
    flags = names.get("flags", "").split()
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{name}, {os.cpu_count()} cores" + (f" ({' '.join(features)})" if features else "")
