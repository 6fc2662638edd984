"""What happens once a value is no longer finite: back to the last checkpoint, and which tensor was the first."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fastgan.messages import log
from fastgan.runs.run import quoted
from fastgan.training.callbacks.base import Callback
from fastgan.training.interruption import Interrupted
from fastgan.training.nonfinite import Check, Finding, NonFinite

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


class NonFiniteValues(Callback):
    """Goes back to the last checkpoint, repeats the steps since then, which are the same again, and names the first
    tensor that is not finite. Goes on from there with other random numbers, `retries` times; then it raises
    FloatingPointError."""

    def __init__(self) -> None:
        self._tries = 0, -1  # to get past the checkpoint of that step

    def on_error(self, trainer: Trainer, error: Exception) -> bool:
        if not isinstance(error, NonFinite):
            return False
        saved = trainer.checkpoints.step
        if saved < 0:
            raise FloatingPointError(f"{error}: these weights cannot be trained") from None
        tries = self._tries[0] if self._tries[1] == saved else 0
        log.warning("%s; repeating the steps since the checkpoint of step %d to find its cause", error, saved)
        found = self._replay(trainer, trainer.step)
        trainer.go_back()
        if tries >= trainer.config.retries:
            raise FloatingPointError(
                f"{found or error}. The run in {trainer.run.path} is back at its checkpoint of step {saved}, from "
                f"before that. {_ways_on(trainer)}"
            ) from None
        self._tries = tries + 1, saved
        log.warning("%s; back at step %d, try %d of %d", found or error, saved, tries + 1, trainer.config.retries)
        trainer.streams.begin(saved, tries + 1)
        return True

    def _replay(self, trainer: Trainer, until: int) -> Finding | None:
        trainer.go_back()
        check = Check(trainer.system)
        with suppress(Interrupted):
            while trainer.step < until and not trainer.interrupted():
                check.step = trainer.step + 1
                trainer.advance(check)
                for found in trainer.ranks.gather(check.found):
                    if found:
                        return found
        return None


def _ways_on(trainer: Trainer) -> str:
    """What to type where values are not finite."""
    rate = trainer.config.options.get("learning_rate")
    ways = [f"--lr {rate / 2:g}"] if isinstance(rate, float) else []
    if trainer.train_step.autocast_dtype is not None:
        ways.append("--precision float32")
    if not trainer.config.retries:
        ways.append("--retries 3, which goes back and on with other random numbers")
    if not ways:
        return "It needs other networks or other data"
    return f"To go on from there: fastgan train --resume {quoted(trainer.run.path)} with {' or '.join(ways)}"
