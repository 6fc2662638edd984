"""The CUDA sources compile with nvcc against the headers of any torch, and the kernels keep to their registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.compiles, pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")]

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "csrc/cuda").glob("*.cu"), key=lambda source: -source.stat().st_size)  # the slowest first
ARCHITECTURES = {"80", "90"}
# A row whose label is out of range is told of before the kernel ends.
LOCAL_MEMORY_IS_FOR_MESSAGES = {"class_loss"}

assert SOURCES


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_compiles_without_spills(source: Path, tmp_path: Path) -> None:
    """For both architectures in one run of the compiler, which then reads the headers once."""
    nvcc = shutil.which("nvcc")
    assert nvcc is not None
    command = [nvcc, "-std=c++17", *(f"-gencode=arch=compute_{a},code=sm_{a}" for a in sorted(ARCHITECTURES)),
               "-Xptxas", "-v", "-Xcompiler", "-fPIC", "-Werror", "all-warnings", "-DUSE_CUDA", "-DFASTGAN_ISA=cuda",
               "-DTORCH_TARGET_VERSION=0x020a000000000000",
               "-isystem", Path(torch.__file__).parent / "include", "-c", source,
               "-o", tmp_path / f"{source.stem}.o"]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    kernels = re.findall(r"Compiling entry function '(\S+)' for 'sm_(\d+)'"
                         r".*?(\d+) bytes stack frame, (\d+) bytes spill stores", done.stdout, re.DOTALL)  # fmt: skip
    assert {arch for _, arch, *_ in kernels} == ARCHITECTURES, done.stdout[-1000:]
    # Nobody trains in float64, where a division is a function call; nor are those hot for what is not aligned.
    hot = [kernel for kernel in kernels if "Li1E" not in kernel[0] and "kernelId" not in kernel[0]]
    if source.stem not in LOCAL_MEMORY_IS_FOR_MESSAGES:
        assert not [kernel for kernel in hot if kernel[2:] != ("0", "0")], "kernels with local memory"
