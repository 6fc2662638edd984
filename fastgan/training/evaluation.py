"""Which checkpoint is the best so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan.data import Batch
from fastgan.messages import log
from fastgan.metrics import SlicedWasserstein, evaluate, registry
from fastgan.metrics.samples import like
from fastgan.runs.config import Settings
from fastgan.systems import System

IMAGES = 512  # of each kind
SAMPLES = 2048  # at most, for a metric of features
COLLAPSED = 1.5  # times as bad as the best


class Evaluation:
    """Looks how good samples from fixed latents are, the same every time.

    By default by the sliced Wasserstein distance of at most 512 of each: it needs no other network, and tells the
    course of one run, not the quality of two. The other metrics are those of `fastgan.metrics.evaluate`, with 2,048
    samples at most; which way is better, the metric says.

    source: the data.   batches: gives new batches of them, from the beginning.   count: of the images, None where
    unknown.   `best`: {"score": value, "step": step} of the best so far, or None.
    """

    def __init__(
        self,
        system: System,
        source: Any,
        batches: Callable[[], Iterator[Batch]],
        count: int | None,
        settings: Settings,
    ) -> None:
        self._system = system
        self._source = source
        self._batches = batches
        self._count = min(IMAGES, count or IMAGES)
        self._most = min(SAMPLES, count or SAMPLES)
        self._settings = settings
        self._metric = registry.find(settings.metric)
        self._reference: SlicedWasserstein | None = None
        self.best: dict[str, Any] | None = None

    def take(self, step: int, score: float) -> None:
        """`score` is the metric's value at that step; `best` follows."""
        if self.best is None or self._metric.improves(score, self.best["score"]):
            self.best = {"score": score, "step": step}
            return
        low, high = sorted((score, self.best["score"]))
        if high > COLLAPSED * low > 0:  # an unbiased kernel distance may be below 0
            log.warning(
                "%s is %.4g at step %d, %.4g at step %d, whose checkpoint is kept as the best (%s is better)",
                self._metric.name, score, step, self.best["score"], self.best["step"], self._metric.better,
            )  # fmt: skip

    def verdict(self) -> str:
        """Why a run that looks for no more than so long stops."""
        if self.best is None:
            return "nothing was looked at"
        return (
            f"no {self._metric.name} {self._metric.better} than the {self.best['score']:.4g} of step "
            f"{self.best['step']}, whose checkpoint is kept as the best, in {self._settings.patience} looks"
        )

    def distance(self) -> float:
        """How good the samples are now, in the weights that the system carries. It may be left at any point."""
        name, seed = self._settings.metric, self._settings.seed
        if name != "sliced_wasserstein":
            return evaluate(self._system, self._source, samples=self._most, metrics=[name], seed=seed).values[name]
        if self._reference is None:
            batches = self._batches()
            real = next(batches).image
            while len(real) < self._count:
                real = torch.cat([real, next(batches).image])
            self._form = real[:1]
            self._reference = SlicedWasserstein(real[: self._count], seed=seed)
        return self._reference.distance(like(self._form, self._samples(seed), clamp=True))

    def _samples(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for start in range(0, self._count, self._settings.batch_size):
            size = min(self._settings.batch_size, self._count - start)
            labels = None
            if self._system.classes:  # in turn over all samples, not anew in each batch
                labels = torch.arange(start, start + size, device=self._system.device) % self._system.classes
            parts.append(self._system.sample(size, generator=generator, labels=labels))
        return torch.cat(parts)
