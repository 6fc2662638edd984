"""make gpu: builds, tests and measures on a machine with a CUDA GPU. No network, no virtual environment.

    PYTHON=python3 RESULTS=results/gpu make gpu

Builds the libraries in place for the GPU's own architecture, runs the tests that need a GPU, then the benchmarks of
ops and steps, and prints a summary. RESULTS gets log.txt, the rows as JSON, their charts and summary.txt. A part that
fails or takes too long is recorded, and the next one runs. Exit code: 0, 1 where a part failed, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOTAL = 530  # seconds for everything
BATCHES = (128, 1024)
WARM = """\
import json, subprocess, sys
from fastgan.bench.cases import step
jobs = [[step.SUITE.module, variant.name, [batch, "cuda"], 1, 4]
        for batch in map(int, sys.argv[1:]) for variant in step.chosen("all", "cuda") if variant.role == "compiled"]
running = [subprocess.Popen([sys.executable, "-m", "fastgan.bench.isolation", json.dumps(job)]) for job in jobs]
sys.exit(any([process.wait() for process in running]))
"""


CHART = """
import json, sys
from pathlib import Path
from fastgan.bench import chart
from fastgan.bench.timing import Row
read = json.loads(Path(sys.argv[1]).read_text())
chart.write(Path(sys.argv[2]), [Row(**row) for row in read["rows"]], read["machine"])
"""


@dataclass
class Parts:
    """What was run, how it ended, and how long it took."""

    results: Path
    began: float = field(default_factory=time.monotonic)
    ended: list[tuple[str, str, float]] = field(default_factory=list)

    def left(self) -> float:
        return TOTAL - (time.monotonic() - self.began)

    def run(self, name: str, command: list[str], limit: float, **environment: str) -> bool:
        """Runs a part for at most `limit` seconds, of those that are left; its output goes into the log."""
        limit, start = min(limit, self.left() - 5), time.monotonic()
        if limit < 5:
            how = "left out: no time"
        else:
            process = self.start(name, command, **environment)
            try:
                code = process.wait(limit)
                how = "" if code == 0 else f"exit code {code}"
            except subprocess.TimeoutExpired:
                how = f"not through after {limit:.0f} s"
            finally:
                end(process)
        seconds = time.monotonic() - start
        self.ended.append((name, how, seconds))
        print(f"{name:<24} {seconds:5.0f} s  {how or 'ok'}", flush=True)
        return not how

    def start(self, name: str, command: list[str], **environment: str) -> subprocess.Popen[Any]:
        with open(self.results / "log.txt", "a") as log:
            log.write(f"\n==== {name}: {' '.join(command)[:300]}\n")
            log.flush()
            return subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )  # fmt: skip


def build(parts: Parts, python: str, architecture: str, torch: Path, version: str) -> None:
    """In place, by setup.py, or where its setuptools is too old by CMake alone."""
    command = [python, "setup.py", "build_ext", "--inplace", "--build-temp", "build/gpu"]
    environment = {"FASTGAN_BUILD_CUDA": "1", "FASTGAN_BUILD_CPU": "1", "FASTGAN_CUDA_ARCHS": architecture}
    if parts.run("build", command, 200, **environment):
        return
    configure = [
        "cmake", "-S", ".", "-B", "build/gpu-cmake", f"-DCMAKE_INSTALL_PREFIX={ROOT / 'fastgan'}",
        f"-DPython_EXECUTABLE={python}", f"-DFASTGAN_TORCH_DIR={torch}", f"-DFASTGAN_TORCH_VERSION={version}",
        "-DFASTGAN_VERSION=0", f"-DFASTGAN_CUDA_ARCHS={architecture}", "-DFASTGAN_CUDA_REASON=",
    ]  # fmt: skip
    if parts.run("configure with CMake", configure, 60):
        parts.run("build with CMake", ["cmake", "--build", "build/gpu-cmake", "--parallel", "--target", "install"], 200)


def end(process: subprocess.Popen[Any]) -> None:
    """Ends a process and those that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "gpu", help="where everything is left")
    results = parser.parse_args().results.resolve()
    try:
        import torch
    except ImportError:
        print("make gpu: this Python has no torch; choose another with PYTHON=", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print(f"make gpu: torch {torch.__version__} finds no CUDA GPU on this machine", file=sys.stderr)
        return 2
    results.mkdir(parents=True, exist_ok=True)
    (results / "log.txt").write_text("")
    parts, python = Parts(results), sys.executable
    major, minor = torch.cuda.get_device_capability()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)

    # torch.compile's peers take minutes to compile. They are stock modules: that can go on while the rest is built and
    # tested, and what comes of it is kept in the compiler's cache.
    warming = parts.start("compiling peers", [python, "-c", WARM, *map(str, BATCHES)])
    try:
        build(parts, python, f"{major}{minor}", Path(torch.__file__).parent, torch.__version__)
        parts.run("doctor", [python, "-m", "fastgan", "doctor"], 60)
        parts.run(
            "tests",
            [
                python, "-m", "pytest", "-k", "cuda and not emulat and not build", "-rs",
                "--junitxml", str(results / "tests.xml"),
                "tests/cuda", "tests/ops", "tests/convolutions", "tests/training",
            ],
            130,
        )  # fmt: skip
        try:
            warming.wait(max(1.0, 250 - (TOTAL - parts.left())))
            parts.ended.append(("compiling peers", "" if warming.returncode == 0 else "some failed", 0.0))
        except subprocess.TimeoutExpired:
            parts.ended.append(("compiling peers", "not all through", 0.0))
    finally:
        end(warming)
    bench = [python, "-m", "fastgan", "bench"]
    files = {"ops": results / "ops.json", **{f"step {batch}": results / f"step-{batch}.json" for batch in BATCHES}}
    parts.run("bench ops", [*bench, "ops", "--device", "cuda", "--rounds", "7", "--json", str(files["ops"])], 100)
    for batch in BATCHES:
        parts.run(
            f"bench step {batch}",
            [
                *bench, "step", "--device", "cuda", "--batch-size", str(batch), "--compile-all",
                "--compile-limit", "60", "--rounds", "7", "--json", str(files[f"step {batch}"]),
            ],
            150,
        )  # fmt: skip
    for name, file in files.items():
        if file.exists():
            parts.run(f"chart {name}", [python, "-c", CHART, str(file), str(file.with_suffix(".png"))], 30)
    text = "\n".join([*summary(files), "", *(f"{name}: {how}" for name, how, _ in parts.ended if how)])
    (results / "summary.txt").write_text(text + "\n")
    print(f"\n{text}\n\n{results} holds the rows, charts and log; {time.monotonic() - parts.began:.0f} s in all")
    return int(any(how for _, how, _ in parts.ended))


def summary(files: dict[str, Path]) -> list[str]:
    """The figures that the project aims at, as far as they were measured."""
    rows = {name: json.loads(file.read_text())["rows"] if file.exists() else [] for name, file in files.items()}
    lines = ["norm_act forward and backward, channels_last bfloat16, batch 1024 (kernels alone):"]
    copy = next((row for row in rows["ops"] if row["variant"] == "copy_"), None)
    rate = copy and copy["facts"]["bytes"] / copy["milliseconds"] / 1e6
    lines.append(f"  copy: {rate:.0f} GB/s" if rate else "  copy: not measured")
    for case in dict.fromkeys(row["case"] for row in rows["ops"] if "norm_act leaky_relu (1024" in row["case"]):
        by = {row["variant"]: row for row in rows["ops"] if row["case"] == case}
        lines.append(f"  {case.removeprefix('norm_act leaky_relu ')}: {_norm_act(by, rate)}")
    host = {row["variant"]: row for row in rows["ops"] if row["case"] == "norm_act on the host"}
    lines.append(f"host time of a block, forward and backward: {_versus(host, 'fastgan', ['BatchNorm2d, LeakyReLU'])}")
    for batch in BATCHES:
        by = {row["variant"]: row for row in rows[f"step {batch}"]}
        lines.append(f"step, batch {batch}:")
        compiled = [name for name, row in by.items() if row.get("role") == "compiled"]
        graphs = [f"CUDA graph by hand, {dtype} channels_last" for dtype in ("float32", "bfloat16")]
        for title, others in (
            ("official", ["official, float32 contiguous"]), ("best torch.compile", compiled), ("best graph", graphs),
        ):  # fmt: skip
            lines.append(f"  fastgan against {title}: {_versus(by, 'fastgan, defaults', others)}")
        for name, row in by.items():
            facts = row["facts"]
            if "kernels" in facts:
                lines.append(
                    f"  {name}: {row['milliseconds']:.2f} ms, {facts['kernels']:.0f} kernels, "
                    f"{facts['launches']:.0f} launches, {facts['syncs']:.0f} waits of the host"
                )
    return lines


def _norm_act(by: dict[str, Any], rate: float | None) -> str:
    ours = by.get("fastgan")
    if ours is None or ours["facts"].get("failed"):
        return "not measured"
    share = ours["facts"]["least bytes unfused in cache"] / ours["milliseconds"] / 1e6 / rate if rate else 0.0
    others = {"eager": by.get("batch_norm + leaky_relu_"), "torch.compile": by.get("torch.compile")}
    ratios = [f"{row['milliseconds'] / ours['milliseconds']:.2f}x {name}" for name, row in others.items() if row]
    return ", ".join([f"{share:.0%} of the copy's rate", *ratios])


def _versus(by: dict[str, Any], ours: str, others: list[str]) -> str:
    """Ours against the fastest of the others."""
    ran = [by[name] for name in others if name in by and not by[name]["facts"].get("failed")]
    if not ran or ours not in by or by[ours]["facts"].get("failed"):
        return "not measured"
    best = min(ran, key=lambda row: row["milliseconds"])
    own = by[ours]["milliseconds"]
    return f"{best['milliseconds'] / own:.2f}x ({own:.3f} ms against {best['milliseconds']:.3f}, {best['variant']})"


if __name__ == "__main__":
    sys.exit(main())
