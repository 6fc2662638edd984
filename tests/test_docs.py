"""The guides say what is so: every python block runs, in order, and every text block after one is what it printed.

A `console` block is a command of the shell, `$ fastgan ...`, with its output; `...` stands for any text.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastgan.metrics import registry as metrics
from fastgan.systems import registry as systems
from fastgan.tuning import choices
from tests.forks import Forks

ROOT = Path(__file__).parents[1]
# gallery.md is written by tools/gallery.py, and its commands take half an hour each: tests/tools/test_gallery.py.
GUIDES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.stem != "gallery")]
# What a page takes for granted; what would take too long here, and what runs instead.
GIVEN = {"README": "from torch import nn\ngenerator, discriminator = nn.Conv2d(8, 3, 3), nn.Conv2d(3, 1, 3)\n"}
SHORTER = {"README": {".fit(steps=2000)": ".fit(steps=2)"}}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def same(expected: str, printed: str) -> bool:
    pattern = r".*?".join(r"\s+".join(map(re.escape, part.split())) for part in expected.split("..."))
    return re.fullmatch(pattern.replace(r".*?", r"[\s\S]*?"), " ".join(printed.split())) is not None


def run_console(block: str, forks: Forks) -> None:
    command, _, expected = block.removeprefix("$ ").partition("\n")
    words = shlex.split(command)
    assert words[0] in ("fastgan", "python"), f"a guide's command must be fastgan or python: {command}"
    if words[0] == "fastgan":
        process = forks.start(*words[1:], FASTGAN_CACHE=os.environ["FASTGAN_CACHE"])
        assert process.wait() == 0, process.error()
        printed = process.output()
    else:
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    assert same(expected, printed), f"{command}\nprinted\n{printed}\nthe guide has\n{expected}"


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks(ROOT / "fastgan/__main__.py") as forks:
        yield forks


@pytest.mark.guides
@pytest.mark.parametrize("guide", GUIDES, ids=lambda p: p.stem)
def test_guide(guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: Forks) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # What a guide measures and registers is known to the rest of it alone.
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choices, "_winners", None)
    monkeypatch.setattr(metrics, "_metrics", dict(metrics._metrics))
    monkeypatch.setattr(systems, "_registered", dict(systems._registered))
    text = guide.read_text()
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(GIVEN.get(guide.stem, ""), space)
    for long, short in SHORTER.get(guide.stem, {}).items():
        assert long in text
        text = text.replace(long, short)
    printed: str | None = None
    count = 0
    for block in BLOCK.finditer(text):
        language, body = block.groups()
        line = text[: block.start()].count("\n") + 2
        if language == "python":
            out = io.StringIO()
            file = re.match(r"# file: (\S+)\n", body)
            if file:
                (tmp_path / file[1]).write_text(body)
                continue
            with contextlib.redirect_stdout(out):
                exec(compile("\n" * (line - 1) + body, str(guide), "exec"), space)
            printed = out.getvalue()
            count += 1
        elif language == "text" and printed is not None:
            assert same(body, printed), f"line {line} printed\n{printed}\nthe guide has\n{body}"
            printed = None
        elif language == "console":
            run_console(body, forks)
    assert count, "a guide without a line that runs"


def test_the_comparison_can_fail() -> None:
    assert same("a ... c\nd", "a b  c\n d\n")
    assert not same("a ... c", "a b d")
    assert not same("3.50", "3x50")
