"""How fast a training is, how long it will take, and how much of its time goes into waiting for data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastgan.messages import duration, log
from fastgan.training.callbacks.base import Callback

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer

WAITING = 0.05  # share of the time above which the data are too slow
MEASURED = 10, 30  # steps of this part of the run between which its speed is measured, to tell how long it takes
LONG = 30  # seconds that are worth telling


class Pace(Callback):
    """Adds `images_per_second` and `data_wait`, a share of the time, to what is logged."""

    def on_start(self, trainer: Trainer) -> None:
        self._done = 0  # steps of this part of the run
        self._slow = 0  # intervals in which data were waited for
        self._warning = ""
        self._measured = time.perf_counter()
        self._since = trainer.step, self._measured
        trainer.feed.waited()

    def on_step(self, trainer: Trainer) -> None:
        self._done += 1
        if self._done in MEASURED:
            self._estimate(trainer)
        if self._warning:  # after the values that it is about
            log.warning("%s", self._warning)
            self._warning = ""

    def on_log(self, trainer: Trainer, values: Mapping[str, float]) -> Mapping[str, float]:
        then, since = self._since
        now = time.perf_counter()
        self._since = trainer.step, now
        seconds, once = trainer.feed.waited()
        speed = (trainer.step - then) * trainer.config.batch_size / (now - since) if now > since else 0.0
        waiting = seconds / max(now - since, 1e-9)
        if waiting > WAITING and not once and trainer.ranks.first:
            if self._slow % 10 == 0:
                self._warning = (
                    f"{100 * waiting:.0f} % of the time up to step {trainer.step} went into waiting for data; try "
                    + advice(trainer.feed.batches.workers, trainer.feed.batches.most_workers)
                )
            self._slow += 1
        return {"images_per_second": max(speed, 0.0), "data_wait": waiting}

    def _estimate(self, trainer: Trainer) -> None:
        now = time.perf_counter()
        first, last = MEASURED
        if self._done == first:
            self._measured = now
            return
        left = trainer.config.steps - trainer.step
        seconds = (now - self._measured) / (last - first)  # a step
        if left * seconds >= LONG and trainer.ranks.first:
            speed = trainer.config.batch_size / seconds
            log.info("%s steps are left: about %s, at %.0f images/s", left, duration(left * seconds), speed)


def advice(workers: int, most: int) -> str:
    """What to change where a run waits for its data: "--workers 4 (now 1), or smaller picture files"."""
    more = min(max(2 * workers, 2), most)
    return (f"--workers {more} (now {workers}), or " if more > workers else "") + "smaller picture files"
