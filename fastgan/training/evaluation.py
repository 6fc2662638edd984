"""Which checkpoint is the best so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastgan.data import Batch, to_uint8
from fastgan.messages import log
from fastgan.metrics import SlicedWasserstein, evaluate
from fastgan.runs.config import Settings
from fastgan.systems import System

IMAGES = 512  # of each kind
SAMPLES = 2048  # at most, for a metric of features
COLLAPSED = 1.5  # times the best distance


class Evaluation:
    """Looks how far samples from fixed latents are from the data, the same every time.

    By default the sliced Wasserstein distance of at most 512 of each: it needs no other network, and tells the course
    of one run, not the quality of two. `frechet` and `kernel` are those of `fastgan.metrics.evaluate`, with 2,048
    samples at most.

    source: the data.   batches: gives new batches of them, from the beginning.   count: of the images, None where
    unknown.   `best`: {"score": distance, "step": step} of the nearest so far, or None.
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
        self._reference: SlicedWasserstein | None = None
        self.best: dict[str, Any] | None = None

    def take(self, step: int, score: float) -> None:
        """`score` is the distance of that step; `best` follows."""
        if self.best is None or score < self.best["score"]:
            self.best = {"score": score, "step": step}
        elif score > COLLAPSED * self.best["score"] > 0:  # an unbiased kernel distance may be below 0
            log.warning(
                "the samples of step %d are %.1f times as far from the data as those of step %d, whose checkpoint is "
                "kept as the best",
                step, score / self.best["score"], self.best["step"],
            )  # fmt: skip

    def verdict(self) -> str:
        """Why a run that looks for no more than so long stops."""
        if self.best is None:
            return "nothing was looked at"
        return (
            f"no {self._settings.metric} below the {self.best['score']:.4g} of step {self.best['step']}, whose "
            f"checkpoint is kept as the best, in {self._settings.patience} looks"
        )

    def distance(self) -> float:
        """How far the samples are now, in the weights that the system carries. It may be left at any point."""
        name, seed = self._settings.metric, self._settings.seed
        if name != "sliced_wasserstein":
            return evaluate(self._system, self._source, samples=self._most, metrics=[name], seed=seed).values[name]
        if self._reference is None:
            batches = self._batches()
            real = next(batches).image
            while len(real) < self._count:
                real = torch.cat([real, next(batches).image])
            self._reference = SlicedWasserstein(real[: self._count], seed=seed)
        samples = self._samples(seed)
        points = samples.shape[2:] == (1, 1)  # which may lie anywhere
        return self._reference.distance(samples if points else to_uint8(samples.clamp(-1, 1)))

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
