"""What a run shows and writes while it trains: progress bar, log.txt, metrics.jsonl, TensorBoard, sample grids and the
film of them."""

from __future__ import annotations

import json
import logging
import logging.handlers
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from fastgan import strict_json
from fastgan.data import Points, enlarged, grid, save_png, scatter
from fastgan.data.movie import film
from fastgan.files import replace_file
from fastgan.messages import duration, heard_by, log
from fastgan.runs.run import Run
from fastgan.training.progress import Progress

WAITING = 0.05  # share of the time above which the data are too slow
MEASURED = 10, 30  # steps of this part of the run between which its speed is measured, to tell how long it takes
LONG = 30  # seconds that are worth telling


class Report:
    """Open while a run trains, from `step` towards `steps`. Values of later steps, from a run that was killed after
    its last checkpoint, are forgotten; their pictures will be overwritten by the same ones.

    advice: what to change where the run waits for its data, such as "--workers 4 (now 1)".
    quiet: nothing is written or shown, as on every rank but the first.

    OSError, naming the file, where something cannot be written. TensorBoard and the film are not worth a run: they
    warn and the run goes on without them.
    """

    def __init__(
        self, run: Run, *, step: int, steps: int, batch_size: int, advice: str = "", quiet: bool = False
    ) -> None:
        self._run = run
        self._step, self._steps = step, steps
        self._batch_size = batch_size
        self._advice = advice
        self._quiet = quiet
        self._slow = 0  # intervals in which data were waited for
        self._done = 0  # steps of this part of the run
        self._drawn = False

    def __enter__(self) -> Report:
        if self._quiet:
            return self
        with ExitStack() as opened:
            with _writing(self._run.metrics):
                _forget_after(self._step, self._run.metrics)
            self._log = opened.enter_context(_log_file(self._run.path / "log.txt", self._above_the_bar))
            self._progress = Progress(self._steps, self._step, self._batch_size)
            opened.callback(self._progress.close)
            self._events = _Events(self._run, self._step)
            opened.callback(self._events.close)
            self._opened = opened.pop_all()
        self._first, self._began = self._step, time.perf_counter()
        self._since = self._step, self._began
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if self._quiet:
            return
        try:
            if self._drawn and (kind is None or issubclass(kind, Exception)):  # else: asked to end at once
                self._film()
            self._end(kind, *error)
        finally:
            self._opened.__exit__(kind, *error)

    def _above_the_bar(self) -> AbstractContextManager[None]:
        """Messages are shown above the bar, not through it."""
        progress: Progress | None = getattr(self, "_progress", None)
        return tqdm.external_write_mode() if progress and progress.terminal else nullcontext()

    def advance(self) -> None:
        """One more step is done."""
        if self._quiet:
            return
        self._progress.update()
        self._done += 1
        if self._done == MEASURED[0]:
            self._measured = time.perf_counter()
        elif self._done == MEASURED[1] and (left := self._steps - self._first - self._done) > 0:
            seconds = (time.perf_counter() - self._measured) / (MEASURED[1] - MEASURED[0])  # a step
            if left * seconds >= LONG:
                speed = self._batch_size / seconds
                log.info("%s steps are left: about %s, at %.0f images/s", left, duration(left * seconds), speed)

    def note(self, text: str) -> None:
        """A line for log.txt alone."""
        if not self._quiet:
            self._log.line(text)

    def values(self, step: int, values: dict[str, float], waiting: float = 0.0, once: bool = False) -> None:
        """Means of what was logged since the last call.

        waiting: share of that time, 0..1, spent waiting for data.   once: for the last time, so that it is no worry.
        """
        if self._quiet:
            return
        then, since = self._since
        now = time.perf_counter()
        speed = (step - then) * self._batch_size / (now - since) if now > since else 0.0
        self._since = step, now
        with _writing(self._run.metrics), open(self._run.metrics, "a") as file:
            line = {"step": step, **values, "images_per_second": round(speed, 1), "data_wait": round(waiting, 4)}
            file.write(strict_json.dumps(line) + "\n")
        losses = [f"{name.removesuffix('/loss')} {value:.3f}" for name, value in values.items() if "/loss" in name]
        text = "".join(f"{loss}, " for loss in losses)
        wait = f"data wait {waiting:.1%}"
        # The bar has its own speed.
        speeds = "" if self._progress.terminal else f"{speed:,.0f} images/s, "
        self._progress.values(step, f"{text}{speeds}{wait}")
        self._log.line(f"step {step}, {text}{speed:.0f} images/s, {wait}")
        self._events.scalars({**values, "images_per_second": speed, "data_wait": waiting}, step)
        if waiting > WAITING and not once:
            if self._slow % 10 == 0:
                remedy = f"; try {self._advice}" if self._advice else ""
                log.warning(
                    "%.0f %% of the time up to step %d went into waiting for data%s", 100 * waiting, step, remedy
                )
            self._slow += 1
        self._log.check()

    def score(self, step: int, scores: dict[str, float]) -> None:
        """How good the samples of this step are."""
        if self._quiet:
            return
        with _writing(self._run.metrics), open(self._run.metrics, "a") as file:
            file.write(strict_json.dumps({"step": step, **scores}) + "\n")
        self._log.line(", ".join([f"step {step}", *(f"{name} {value:.4f}" for name, value in scores.items())]))
        self._events.scalars(scores, step)

    def real(self, image: Tensor) -> None:
        """What the network sees of the data, once a run.   `image`: uint8 (C, H, W)"""
        if not self._quiet and not self._run.real.exists():
            with _writing(self._run.real):
                save_png(self._run.real, image)

    def picture(self, step: int, image: Tensor) -> None:
        """`image`: uint8 (C, H, W)"""
        if self._quiet:
            return
        path = self._run.samples / f"step-{step:06d}.png"
        with _writing(path):
            save_png(path, image)
        self._events.image(image, step)
        self._step, self._drawn = step, True

    def _end(self, kind: type[BaseException] | None, *error: Any) -> None:
        """What log.txt says last, where nothing else is said of the end."""
        if kind is None and self._done and self._first + self._done == self._steps:
            seconds = time.perf_counter() - self._began
            took = f"{duration(seconds)}, {self._done * self._batch_size / seconds:.0f} images/s"
            self._log.line(f"{self._steps} steps done, the last {self._done} in {took}")
        elif kind is not None and not issubclass(kind, Exception):
            self._log.line("interrupted")
        elif kind is not None and not issubclass(kind, FloatingPointError):  # of which the trainer says more
            self._log.line(f"ended by {kind.__name__}: {error[0]}", logging.ERROR)

    def _film(self) -> None:
        path = self._run.path / "training.gif"
        files = {int(file.stem[5:]): file for file in self._run.samples.glob("step-*.png") if file.stem[5:].isdecimal()}
        steps = sorted(step for step in files if step <= self._step)
        if len(steps) > 1:
            try:
                film([files[step] for step in steps], path)
            except (OSError, ValueError) as error:
                log.warning("%s was not written: %s", path, error)


def picture(images: Tensor, data: Any = None, columns: int | None = None) -> Tensor:
    """A grid of (N, C, H, W) images, uint8 on the CPU, large enough to be seen; what lies beyond [-1, 1] is clamped. Of
    channels that no PNG shows, the first one. Points of the plane as dots, with those of `data` behind them."""
    if images.shape[1:] == (2, 1, 1):
        return scatter(images, data.images if isinstance(data, Points) else None)
    shown = (images if images.shape[1] in (1, 3) else images[:, :1]).clamp(-1, 1)
    return enlarged(grid(shown, columns).cpu())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """An OSError inside the block names the file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # it says so itself
            raise
        reason = f"could not write it ({error.strerror}); the last checkpoint stays"
        raise OSError(error.errno, reason, str(path)) from error


class _LogFile(logging.handlers.WatchedFileHandler):
    """log.txt, appended to. A failure to write is kept until `check`: messages come from anywhere, and there it would
    be taken for something else."""

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
            with _writing(Path(self.baseFilename)):
                raise self.failure


@contextmanager
def _log_file(path: Path, showing: Callable[[], AbstractContextManager[None]]) -> Iterator[_LogFile]:
    """Inside the block, messages of this run also go to `path`."""
    with _writing(path):
        handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    try:
        with heard_by(handler.handle, showing):
            yield handler
        handler.check()
    finally:
        with suppress(OSError):  # what could not be written has been said
            handler.close()


class _Events:
    """TensorBoard's event files. Its writer is a thread: what fails there surfaces at a later call, whatever it is."""

    def __init__(self, run: Run, step: int) -> None:
        self._path = run.tensorboard
        self._writer: Any = None
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where TensorFlow is installed, tensorboard imports it
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.info(
                "tensorboard is not installed (pip install tensorboard): no event files, metrics.jsonl has the values"
            )
            return
        with self._going_on():
            self._writer = SummaryWriter(str(run.tensorboard), purge_step=step + 1)

    def scalars(self, values: dict[str, float], step: int) -> None:
        with self._going_on():
            for name, value in values.items() if self._writer else ():
                self._writer.add_scalar(name, value, step)

    def image(self, image: Tensor, step: int) -> None:
        with self._going_on():
            if self._writer:
                self._writer.add_image("samples", image, step)

    def close(self) -> None:
        with self._going_on():
            if self._writer:
                self._writer.close()

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._writer = None
            log.warning("no more events for TensorBoard in %s: %s; metrics.jsonl has the values", self._path, error)


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
