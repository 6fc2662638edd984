"""Which checkpoint is the best so far."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fastgan.data import Batch
from fastgan.metrics import SlicedWasserstein
from fastgan.systems import System

log = logging.getLogger("fastgan")

IMAGES = 512  # of each kind
COLLAPSED = 1.5  # times the best distance


class Evaluation:
    """Looks how far samples from fixed latents are from the data: the sliced Wasserstein distance of at most 512 of
    each, the same every time. It needs no other network, and tells the course of one run, not the quality of two.

    batches: gives new batches of the data, from the beginning.   count: of the images, None where unknown.
    `best`: {"score": distance, "step": step} of the nearest so far, or None.
    """

    def __init__(
        self, system: System, batches: Callable[[], Iterator[Batch]], count: int | None, batch_size: int, seed: int
    ) -> None:
        self._system = system
        self._batches = batches
        self._count = min(IMAGES, count or IMAGES)
        self._batch_size = batch_size
        self._seed = seed
        self._reference: SlicedWasserstein | None = None
        self.best: dict[str, Any] | None = None

    def look(self, step: int) -> float:
        """The distance now, in the weights that the system carries; `best` follows."""
        score = self._distance()
        if self.best is None or score < self.best["score"]:
            self.best = {"score": score, "step": step}
        elif score > COLLAPSED * self.best["score"]:
            log.warning(
                "the samples of step %d are %.1f times as far from the data as those of step %d, whose checkpoint is "
                "kept as the best",
                step, score / self.best["score"], self.best["step"],
            )  # fmt: skip
        return score

    def _distance(self) -> float:
        if self._reference is None:
            batches = self._batches()
            real = next(batches).images
            while len(real) < self._count:
                real = torch.cat([real, next(batches).images])
            self._reference = SlicedWasserstein(real[: self._count], seed=self._seed)
        generator = torch.Generator().manual_seed(self._seed)
        starts = range(0, self._count, self._batch_size)
        sizes = [min(self._batch_size, self._count - start) for start in starts]
        return self._reference.distance(torch.cat([self._system.sample(size, generator=generator) for size in sizes]))
