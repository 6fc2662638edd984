"""How far a training is, on stderr: a bar in a terminal, elsewhere plain lines."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tqdm import tqdm

from fastgan.messages import heard_by
from fastgan.runs.run import Run
from fastgan.training.callbacks.base import Callback
from fastgan.training.loggers.base import Logger
from fastgan.training.loggers.log_file import told

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer

EVERY = 5.0  # seconds between two plain lines, at least
REDRAWN = 0.5  # seconds after which the bar is drawn again
FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} steps [{elapsed}<{remaining}, {images}{postfix}]"


class Console(Logger, Callback):
    """What cannot be written, as to a terminal that went away, ends it, not the run. It goes by a clock that does not
    jump."""

    _steps = _batch_size = 0
    _hearing: ExitStack | None = None

    def open(self, run: Run, step: int) -> None:
        if self._hearing is not None:
            self._hearing.close()
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._written = sys.stderr is not None
        self._step = self._first = step
        self._line = ""  # the last values; of plain lines those that are not yet shown
        self._shown, self._began = -EVERY, time.perf_counter()
        self._hearing = ExitStack()
        if self._terminal:  # messages are shown above the bar, not through it
            self._hearing.enter_context(heard_by(lambda record: None, self._aside))

    def on_start(self, trainer: Trainer) -> None:
        self.expects(trainer.config.steps, trainer.config.batch_size)

    def expects(self, steps: int, batch_size: int) -> None:
        """steps: in all.   batch_size: images a step."""
        self._steps, self._batch_size = steps, batch_size
        self._show_bar()

    def on_step(self, trainer: Trainer) -> None:
        self._step = trainer.step
        if self._terminal and time.perf_counter() - self._shown >= REDRAWN:
            self._show_bar()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if "data_wait" not in values:
            return
        if self._terminal:  # the bar has its own speed
            self._line = told(values, speed=False)
            return
        self._line = f"step {step} of {self._steps}, {told(values)}"
        if time.perf_counter() - self._shown >= EVERY:
            self._show_line()

    def close(self) -> None:
        if self._hearing is not None:
            self._hearing.close()
        if self._terminal:
            self._show_bar("\n")
        elif self._line:
            self._show_line()

    def _show_line(self) -> None:
        self._write(self._line + "\n")
        self._line, self._shown = "", time.perf_counter()

    def _show_bar(self, end: str = "") -> None:
        if not (self._terminal and self._written):
            return
        self._shown = now = time.perf_counter()
        elapsed, done = now - self._began, self._step - self._first
        rate = done / elapsed if elapsed > 0 else 0.0
        columns = _columns()
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        bar = tqdm.format_meter(
            self._step, self._steps, elapsed, ncols=columns, rate=rate or None, initial=self._first,
            bar_format=FORMAT, postfix=self._line, ascii=not encoding.lower().startswith("utf"),
            images=f"{rate * self._batch_size:,.0f} images/s",
        )  # fmt: skip
        self._write(f"\r{bar:<{columns}}"[: columns + 1] + end)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Inside the block the line of the bar is free."""
        self._write("\r" + " " * _columns() + "\r")
        try:
            yield
        finally:
            self._show_bar()

    def _write(self, text: str) -> None:
        if not self._written or sys.stderr is None:
            return
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):  # a broken pipe, a closed file
            self._written = False


def _columns() -> int:
    """Of the terminal, without the last one: what is written there begins a new line in some."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns - 1
    except (OSError, ValueError, AttributeError):
        return shutil.get_terminal_size().columns - 1
