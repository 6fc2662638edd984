"""Patience: the end of a run that gets no better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgan.metrics import registry
from fastgan.training.callbacks.base import Callback
from fastgan.training.callbacks.evaluation import Evaluation

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


class EarlyStopping(Callback):
    """Stops after `patience` evaluations without a better one."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation

    def on_start(self, trainer: Trainer) -> None:
        self._look(trainer)

    def on_step(self, trainer: Trainer) -> None:
        if trainer.config.patience:
            self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        asked, best = trainer.config, self._evaluation.best
        steps = asked.patience * asked.evaluate_every
        if steps and best is not None and trainer.step >= best["step"] + steps:
            metric = registry.find(asked.metric)
            trainer.stop(
                f"no {metric.name} {metric.better} than the {best['score']:.4g} of step {best['step']}, whose "
                f"checkpoint is kept as the best, in {asked.patience} looks"
            )
