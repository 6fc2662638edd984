"""make gpu, as far as it goes without a GPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "tools" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu"]


@pytest.mark.processes
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_says_that_there_is_no_gpu(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gpu.py"), "--results", str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"make gpu: torch {torch.__version__} finds no CUDA GPU on this machine\n"
    assert not (tmp_path / "out").exists()


def test_parts_end_in_time_and_do_not_stop_the_others(gpu, tmp_path, capsys):
    parts = gpu.Parts(tmp_path)
    assert not parts.run("hangs", [sys.executable, "-c", "import time; time.sleep(60)"], 5)
    assert not parts.run("fails", [sys.executable, "-c", "raise SystemExit(3)"], 30)
    assert parts.run("works", [sys.executable, "-c", "print('hello from', __import__('fastgan').__name__)"], 30)
    parts.began -= gpu.TOTAL
    assert not parts.run("late", [sys.executable, "-c", ""], 30)
    assert [how for _, how, _ in parts.ended] == ["not through after 5 s", "exit code 3", "", "left out: no time"]
    assert "hello from fastgan" in (tmp_path / "log.txt").read_text()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["hangs", "fails", "works", "late"]


def row(case, variant, milliseconds, role="peer", **facts):
    return {"case": case, "variant": variant, "milliseconds": milliseconds, "facts": facts, "role": role}


def test_summary(gpu, tmp_path):
    case = "norm_act leaky_relu (1024, 64, 32, 32) bfloat16 channels_last"
    moved = {"least bytes unfused in cache": 8e9}
    ops = [
        row("copy of 1 GiB", "copy_", 1.0, bytes=4e9),
        row(case, "batch_norm + leaky_relu_", 5.0, **moved),
        row(case, "fastgan", 2.5, **moved),
        row(case, "torch.compile", 3.0, **moved),
        row("norm_act on the host", "BatchNorm2d, LeakyReLU", 0.10),
        row("norm_act on the host", "fastgan", 0.05),
    ]
    step = [
        row("step", "official, float32 contiguous", 9.0, kernels=300, launches=310, syncs=2),
        row("step", "compile, bfloat16 channels_last", 4.0, "compiled"),
        row("step", "compile max-autotune, float32 channels_last", 0.0, "compiled", failed="not ready after 60 s"),
        row("step", "fastgan, defaults", 2.0, kernels=120, launches=3, syncs=0),
    ]
    files = {"ops": tmp_path / "ops.json", "step 128": tmp_path / "step.json", "step 1024": tmp_path / "absent.json"}
    files["ops"].write_text(json.dumps({"rows": ops}))
    files["step 128"].write_text(json.dumps({"rows": step}))
    text = "\n".join(gpu.summary(files))
    assert "copy: 4000 GB/s" in text
    assert "(1024, 64, 32, 32) bfloat16 channels_last: 80% of the copy's rate, 2.00x eager, 1.20x torch.compile" in text
    assert "host time of a block, forward and backward: 2.00x (0.050 ms against 0.100, BatchNorm2d, LeakyReLU)" in text
    assert "fastgan against official: 4.50x" in text
    assert "fastgan against best torch.compile: 2.00x (2.000 ms against 4.000, compile, bfloat16 channels_last)" in text
    assert "fastgan against best graph: not measured" in text
    assert "fastgan, defaults: 2.00 ms, 120 kernels, 3 launches, 0 waits of the host" in text
    assert text.count("not measured") == 4
