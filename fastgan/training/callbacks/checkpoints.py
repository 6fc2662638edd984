"""When checkpoints are written, and that they are this run's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgan.runs import checkpoint, config
from fastgan.runs.run import Run, quoted
from fastgan.training.callbacks.base import Callback
from fastgan.training.nonfinite import NonFinite, below, not_finite
from fastgan.training.source import record
from fastgan.training.state import state_of

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer

WEIGHTS = ("system", "ema", "optimizers")  # what must be finite


class Checkpoints(Callback):
    """Writes one every `checkpoint_every` steps, where one was asked for, and at the end.

    step: of the last one; -1 before the first.
    """

    def __init__(self) -> None:
        self.step = -1
        self._identity: bytes | None = None  # of its file
        self._asked = self._best = False

    def ask(self, *, best: bool = False) -> None:
        """For one at the end of this step, or of the next. `best`: it is the best so far, and kept as that, too."""
        self._asked = True
        self._best |= best

    def on_step(self, trainer: Trainer) -> None:
        if self._asked or trainer.due(trainer.config.checkpoint_every):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """NonFinite where a value is not finite: a run that has diverged keeps its last good checkpoint."""
        trainer.means.read(trainer.step)
        state = state_of(trainer)
        bad = not_finite(below({name: state[name] for name in WEIGHTS}))
        if trainer.ranks.any(bad is not None):
            raise NonFinite(f"{bad[0]} is {bad[1]} after step {trainer.step}" if bad else "a weight is not finite")
        if trainer.ranks.first:
            path = trainer.run.checkpoint
            checkpoint.save(path, state)
            if self._best:
                checkpoint.keep_as_best(path)
            self._identity = checkpoint.identity(path)
        self.step = trainer.step
        self._asked = self._best = False

    def finish(self, trainer: Trainer) -> None:
        """The last one of a `fit`, where it is not there yet."""
        if self._asked or self.step != trainer.step:
            self.save(trainer)

    def found(self, run: Run, step: int) -> None:
        """The last one lies in `run`, and is of that step."""
        self.step, self._identity = step, checkpoint.identity(run.checkpoint)
        self._asked = self._best = False

    def forget(self) -> None:
        """There is none any more."""
        self.step, self._identity = -1, None

    def check(self, trainer: Trainer) -> None:
        """Before a `fit`: what the directory says of the run. FileExistsError where it does not hold the checkpoint
        that this trainer left or found there."""
        run = trainer.run
        if checkpoint.identity(run.checkpoint) != self._identity:
            raise FileExistsError(
                f"another trainer has saved a checkpoint in {run.path} since this one was made; go on from that "
                f"with `fastgan train --resume {quoted(run.path)}` (in Python: Trainer.resume)"
            )
        record(run, trainer.data, trainer.source)
        config.write(run.config, trainer.config)
