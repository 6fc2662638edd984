"""log.txt: what the run said, the values it logged and how it ended, each with its time."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.messages import duration, heard_by
from fastgan.runs.run import Run
from fastgan.training.callbacks.base import Callback
from fastgan.training.loggers.base import Logger, writing

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


class LogFile(Logger, Callback):
    """Appended to. OSError, naming the file, where it cannot be written."""

    needed = True
    _handler: _Handler | None = None
    _ended_by: BaseException | None = None

    def open(self, run: Run, step: int) -> None:
        if self._handler is not None:
            return
        path = run.path / "log.txt"
        with writing(path):
            self._handler = _Handler(path, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        self._hearing = ExitStack()
        self._hearing.enter_context(heard_by(self._handler.handle))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        assert self._handler is not None
        self._handler.line(f"step {step}, {told(values)}")
        self._handler.check()

    def on_start(self, trainer: Trainer) -> None:
        self._first, self._began, self._ended_by = trainer.step, time.perf_counter(), None

    def on_end(self, trainer: Trainer, error: BaseException | None) -> None:
        """What it says last, where nothing else is said of the end."""
        if self._handler is None:
            return
        done = trainer.step - self._first
        self._ended_by = error
        if error is None and done and trainer.step == trainer.config.steps:
            seconds = time.perf_counter() - self._began
            took = f"{duration(seconds)}, {done * trainer.config.batch_size / seconds:.0f} images/s"
            self._handler.line(f"{trainer.config.steps} steps done, the last {done} in {took}")
        elif error is not None and not isinstance(error, Exception):
            self._handler.line("interrupted")
        elif error is not None:
            self._handler.line(f"ended by {type(error).__name__}: {error}", logging.ERROR)

    def close(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            self._hearing.close()
            try:
                if self._ended_by is None:  # else that is to be said
                    handler.check()
            finally:
                with suppress(OSError):  # what could not be written has been said
                    handler.close()


def told(values: Mapping[str, float], *, speed: bool = True) -> str:
    """Logged values as a line: losses, images a second and the wait for data; of an evaluation what it found."""
    if "data_wait" not in values:
        return ", ".join(_found(name, values) for name in values if name.rpartition("/")[0] not in values)
    parts = [f"{name.removesuffix('/loss')} {value:.3f}" for name, value in values.items() if "/loss" in name]
    if speed:
        parts.append(f"{values['images_per_second']:.0f} images/s")
    return ", ".join([*parts, f"data wait {values['data_wait']:.1%}"])


def _found(name: str, values: Mapping[str, float]) -> str:
    """A value, and in brackets those that are logged beside it as NAME/...: "l1 0.1310 (copy 0.2940)"."""
    prefix = f"{name}/"
    beside = [f"{key.removeprefix(prefix)} {value:.4f}" for key, value in values.items() if key.startswith(prefix)]
    return f"{name} {values[name]:.4f}" + (f" ({', '.join(beside)})" if beside else "")


class _Handler(logging.handlers.WatchedFileHandler):
    """A failure to write is kept until `check`: messages come from anywhere, and there it would be taken for something
    else."""

    failure: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError as error:  # the directory is gone
            self.failure = error

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.failure = error
        else:
            super().handleError(record)

    def line(self, text: str, level: int = logging.INFO) -> None:
        """A line that nothing else shows."""
        self.handle(logging.LogRecord("fastgan", level, "", 0, text, (), None))

    def check(self) -> None:
        if self.failure is not None:
            with writing(Path(self.baseFilename)):
                raise self.failure
