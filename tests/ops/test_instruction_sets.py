"""The kernels that this processor would not choose: the tests with the mark every_instruction_set again, on each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.processes
@pytest.mark.cpu_kernels
@pytest.mark.parametrize("capability", ["baseline", "avx2"])
def test_every_instruction_set(capability: str) -> None:
    """In one process for all files: most of what a file would take in its own is imports."""
    marked = ["-m", "every_instruction_set", "-k", "native or convolutions", "--import-mode=append"]  # of this fastgan
    done = subprocess.run(
        [sys.executable, "-m", "pytest", TESTS / "ops", TESTS / "convolutions", "-q", "-x", *marked],
        env={**os.environ, "FASTGAN_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
