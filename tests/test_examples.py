"""The examples run, differ in the three lines that they promise, and train to the same losses."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parents[1] / "examples"


def losses(name: str) -> list[float]:
    done = subprocess.run([sys.executable, EXAMPLES / name, "--steps", "4"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(number) for number in re.findall(r"loss_[dg] (\d+\.\d+)", done.stdout)]


def test_three_lines_are_added_and_none_is_changed() -> None:
    plain, fused = ((EXAMPLES / name).read_text().splitlines() for name in ("dcgan_plain.py", "dcgan_fused.py"))
    changes = [line for line in difflib.ndiff(plain, fused) if line[0] in "+-" and line[1:].strip()]
    assert changes == [
        "+ import fastgan",
        "+ generator = fastgan.fuse(generator)",
        "+ discriminator = fastgan.fuse(discriminator)",
    ]


def test_the_fused_example_trains_to_the_same_losses() -> None:
    plain, fused = losses("dcgan_plain.py"), losses("dcgan_fused.py")
    assert len(plain) == 4
    # Adam's first steps follow the signs of gradients near 0, too: PyTorch itself, on one thread and on two, differs by
    # 3e-3 in the last of these.
    assert all(abs(a - b) < 6e-3 for a, b in zip(plain, fused)), (plain, fused)
    assert plain[:2] == fused[:2]
