"""Where a run writes what it logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from fastgan.messages import log
from fastgan.runs.run import Run


class Logger:
    """A place that values, pictures and text of a run go to, given as `Trainer(..., loggers=[...])`: beside the
    terminal, log.txt, metrics.jsonl and TensorBoard, which every run has. Every method is optional.

        class Printed(Logger):
            def scalars(self, step, values):
                print(step, values)

    Only the first of several processes logs. One that raises is warned about once and left out from there on, and the
    run goes on; with `needed`, its error ends the run. One that is a `Callback`, too, is called as one.
    """

    needed = False

    @property
    def name(self) -> str:
        """What a warning calls it."""
        return type(self).__name__

    def open(self, run: Run, step: int) -> None:
        """Before anything is logged, and again where a run goes back to `step`: what was logged of later steps, also
        by a process that was killed, will be logged again."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Means over the steps since the last time, with `images_per_second` and `data_wait` (a share of the time); or
        what an evaluation found, without these two."""

    def image(self, step: int, name: str, image: Tensor) -> None:
        """`image`: uint8 (C, H, W) on the CPU, C = 1 or 3."""

    def text(self, step: int, name: str, text: str) -> None:
        """Such as what was said of an image, or the words it was made from."""

    def close(self) -> None:
        """Nothing more comes, unless it is opened again."""


class Loggers:
    """All loggers of a run, each left out once it fails. TypeError for one that is no Logger."""

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self._all = list(loggers)
        self._left: Sequence[Logger] = ()  # those that are open and have not failed
        for logger in self._all:
            if not isinstance(logger, Logger):
                raise TypeError(f"loggers must be fastgan.training.Logger objects, not {logger!r}")

    def open(self, run: Run, step: int) -> None:
        self._left = self._all
        self._each(lambda logger: logger.open(run, step))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._each(lambda logger: logger.scalars(step, values))

    def image(self, step: int, name: str, image: Tensor) -> None:
        self._each(lambda logger: logger.image(step, name, image))

    def text(self, step: int, name: str, text: str) -> None:
        self._each(lambda logger: logger.text(step, name, text))

    def close(self) -> None:
        """All of them, also where one of them raises: the last opened first, so that log.txt has the warnings."""
        failed: Exception | None = None
        for logger in reversed(self._left):
            try:
                self._each(_close, [logger])
            except Exception as error:
                failed = error
        self._left = ()
        if failed is not None:
            raise failed

    def _each(self, call: Callable[[Logger], None], loggers: Sequence[Logger] | None = None) -> None:
        for logger in self._left if loggers is None else loggers:
            try:
                call(logger)
            except Exception as error:
                if logger.needed:
                    raise
                self._left = [other for other in self._left if other is not logger]
                log.warning(
                    "%s failed and is left out from here on (%s: %s); metrics.jsonl has the values",
                    logger.name, type(error).__name__, error,
                )  # fmt: skip
                if call is not _close:
                    with suppress(Exception):
                        logger.close()


def _close(logger: Logger) -> None:
    logger.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An OSError inside the block names the file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it says so itself
            raise
        reason = f"could not write it ({error.strerror}); the last checkpoint stays"
        raise OSError(error.errno, reason, str(path)) from error
