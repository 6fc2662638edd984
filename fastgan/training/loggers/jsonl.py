"""metrics.jsonl: a line of values each time some are logged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from fastgan import strict_json
from fastgan.files import replace_file
from fastgan.runs.run import Run
from fastgan.training.loggers.base import Logger, writing

DIGITS = {"images_per_second": 1, "data_wait": 4}  # after the point


class JSONL(Logger):
    """Of a run that was killed, lines of later steps than its last checkpoint are forgotten.

    OSError, naming the file, where it cannot be written.
    """

    needed = True

    def open(self, run: Run, step: int) -> None:
        self._path = run.metrics
        with writing(self._path):
            _forget_after(step, self._path)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        short = {name: round(value, DIGITS[name]) if name in DIGITS else value for name, value in values.items()}
        with writing(self._path), open(self._path, "a") as file:
            file.write(strict_json.dumps({"step": step, **short}) + "\n")


def _forget_after(step: int, metrics: Path) -> None:
    if not metrics.exists():
        return
    lines = metrics.read_text(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
    if kept != lines:
        replace_file(metrics, "".join(kept).encode(), alone=True)


def _step(line: str) -> float:
    """Of a line of metrics.jsonl; infinity for one that a kill or a loss of power left unreadable."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
