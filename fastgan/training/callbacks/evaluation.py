"""Which checkpoint is the best so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fastgan.messages import log
from fastgan.metrics import SlicedWasserstein, evaluate, registry, translation
from fastgan.metrics.samples import like
from fastgan.systems import Translator
from fastgan.systems.base import evaluating
from fastgan.training.callbacks.base import Callback
from fastgan.training.judging import judged_on

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer

IMAGES = 512  # of each kind
SAMPLES = 2048  # at most, for a metric of features
PICTURES = 128  # at most, each beside its truth
COLLAPSED = 1.5  # times as bad as the best


class Evaluation(Callback):
    """Looks every `evaluate_every` steps how good samples from fixed latents are, the same every time.

    By default by the sliced Wasserstein distance of at most 512 of each: it needs no other network, and tells the
    course of one run, not the quality of two. The other metrics are those of `fastgan.metrics.evaluate`, with 2,048
    samples at most; which way is better, the metric says.

    Of a system that translates they are those of `fastgan.metrics.translation`, the mean over the examples that are in
    previews, on the part of the data that is kept for the test: of 128 pictures and their truth, or of 512.

    best: {"score": value, "step": step} of the best so far, or None.
    owed: an evaluation of this step was asked for, and interrupted.
    """

    name = "evaluation"

    def __init__(self) -> None:
        self.best: dict[str, Any] | None = None
        self.owed = False
        self._asked = False
        self._reference: SlicedWasserstein | None = None
        self._kept: Any = None  # what translations are judged on
        self._beside: dict[str, float] = {}  # the same of what costs nothing, by its name

    def ask(self) -> None:
        """For one at the end of this step, or of the next."""
        self._asked = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "owed": self.owed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        best = state["best"]
        self.best = best if best is None else {"score": float(best["score"]), "step": int(best["step"])}
        self.owed = state["owed"] is True

    def make_up(self, trainer: Trainer) -> None:
        """The one that is owed."""
        if self.owed and trainer.config.evaluate_every:
            self._look(trainer)
            trainer.checkpoints.on_step(trainer)

    def on_step(self, trainer: Trainer) -> None:
        if self._asked or trainer.due(trainer.config.evaluate_every):
            self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        self._asked, self.owed = False, True
        if trainer.ranks.first:
            with trainer.aside(), evaluating(trainer.system), trainer.interruption.at_once():
                score = self.distance(trainer)
            if score is not None:
                self._take(trainer.step, score, registry.find(trainer.config.metric))
                name = trainer.config.metric
                beside = {f"{name}/{free}": value for free, value in self._beside.items()}
                trainer.loggers.scalars(trainer.step, {name: score, **beside})
        self.owed = False
        self.best = trainer.ranks.from_first(lambda: self.best)
        if self.best is not None and self.best["step"] == trainer.step:
            trainer.save(best=True)

    def _take(self, step: int, score: float, metric: registry.Metric) -> None:
        if self.best is None or metric.improves(score, self.best["score"]):
            self.best = {"score": score, "step": step}
            return
        low, high = sorted((score, self.best["score"]))
        if high > COLLAPSED * low > 0:  # an unbiased kernel distance may be below 0
            log.warning(
                "%s is %.4g at step %d, %.4g at step %d, whose checkpoint is kept as the best (%s is better)",
                metric.name, score, step, self.best["score"], self.best["step"], metric.better,
            )  # fmt: skip

    def distance(self, trainer: Trainer) -> float | None:
        """How good the samples are now, in the weights that the system carries. It may be left at any point.

        None where the system cannot say yet: such a look counts for nothing."""
        name, seed, count = trainer.config.metric, trainer.config.seed, trainer.feed.batches.count
        if name == "convergence":
            return trainer.system.convergence()
        if isinstance(trainer.system, Translator):
            return self._translations(trainer, trainer.system)
        if name != "sliced_wasserstein":
            most = min(SAMPLES, count or SAMPLES)
            return evaluate(trainer.system, trainer.source, samples=most, metrics=[name], seed=seed).values[name]
        count = min(IMAGES, count or IMAGES)
        generator = torch.Generator().manual_seed(seed)
        outputs = list(trainer.system.outputs(trainer.source, count, generator))
        if self._reference is None:
            batches, against = trainer.feed.again(), outputs[0].against
            real = next(batches)[against]
            while len(real) < count:
                real = torch.cat([real, next(batches)[against]])
            self._form = real[:1]
            self._reference = SlicedWasserstein(real[:count], seed=seed)
        made = torch.cat([output.values for output in outputs])
        return self._reference.distance(like(self._form, made, clamp=True))

    def _translations(self, trainer: Trainer, system: Translator) -> float:
        name, seed = trainer.config.metric, trainer.config.seed
        if self._kept is None:
            self._kept = judged_on(trainer.source, trainer.config)
        most = PICTURES if "truth" in registry.find(name).needs else IMAGES
        found = translation.evaluate(system, self._kept, samples=most, metrics=[name], shown=True, seed=seed)
        score, self._beside = found.mean(name)
        return score
