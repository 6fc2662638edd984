"""The CUDA kernels without a GPU: their index arithmetic, and some of the tests of the ops on the emulation.

`make emulate` runs all of those tests there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.emulated import ROOT, build

pytestmark = pytest.mark.compiles

CODE = """
import torch
from fastgan import ops

def results(offset, dtype, layout):
    torch.manual_seed(0)
    memory = torch.randn(8 * 24 * 36 + 16).to(dtype)
    x = memory[offset : offset + 8 * 24 * 36].view(8, 24, 6, 6)  # not at a multiple of 16 bytes
    if layout == "channels_last":
        x = memory[offset : offset + 8 * 24 * 36].view(8, 6, 6, 24).permute(0, 3, 1, 2)
    x.requires_grad_()
    mean, var = torch.zeros(24), torch.ones(24)
    y = ops.norm_act(x, torch.ones(24), torch.zeros(24), mean, var, act="silu", splits=2, backend="native")
    z = ops.bias_act(x, torch.linspace(-1, 1, 24).to(dtype), act="tanh", gain=1.5, clamp=1.0, backend="native")
    loss = ops.gan_loss(y.flatten(), z.flatten(), kind="relativistic_average", backend="native").loss
    return [y, z, mean, var, loss, *torch.autograd.grad(loss, x)]

for dtype in (torch.float32, torch.bfloat16):
    for layout in ("channels_last", "contiguous"):
        for offset in (0, 1, 3):
            first, again = results(offset, dtype, layout), results(offset, dtype, layout)
            assert all(torch.equal(a, b) for a, b in zip(first, again))  # whatever the order of threads and blocks
            assert all(t.isfinite().all() for t in first)
"""


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") is None:
        pytest.skip("needs cmake and a C++ compiler")
    return build(tmp_path_factory.mktemp("emulated"))


def run(emulated: Path, *command: str, seed: int = 0) -> None:
    environment = {**os.environ, "PYTHONPATH": str(emulated), "FASTGAN_EMULATION_SEED": str(seed)}
    done = subprocess.run([sys.executable, *command], cwd=emulated, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.mark.parametrize("seed", [1, 2])
def test_misaligned_and_the_same_bits_in_any_order(emulated: Path, seed: int) -> None:
    run(emulated, "-c", CODE, seed=seed)


def test_some_of_the_tests_of_the_ops(emulated: Path) -> None:
    tests = [str(ROOT / "tests/ops" / f"test_{op}.py") for op in ("norm_act", "bias_act", "gan_loss", "class_loss")]
    chosen = "native and (as_accurate_as or splits or r1) and not float16 and not silu and not tanh and not elu"
    run(emulated, "-m", "pytest", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "--import-mode=append",
        "-x", "-m", "not slow and not cpu_kernels", "-k", chosen, *tests)  # fmt: skip


def test_every_element_is_one_threads(tmp_path: Path) -> None:
    if (compiler := shutil.which("c++")) is None:
        pytest.skip("needs a C++ compiler")
    program = tmp_path / "walk"
    source = ROOT / "tests/cuda/walk.cpp"
    subprocess.run([compiler, "-std=c++17", "-O2", "-DFASTGAN_ISA=cuda", source, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
