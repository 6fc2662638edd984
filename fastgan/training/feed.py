"""The data of each step, and the time that is spent waiting for them."""

from __future__ import annotations

import time
from typing import Any

import torch

from fastgan.data import Batch, Batches
from fastgan.distributed import Ranks
from fastgan.runs.config import Settings
from fastgan.systems import System
from fastgan.training.interruption import Interrupted, Interruption
from fastgan.training.staging import Staging


class Feed:
    """What `system` is trained on: as many of its `batches` of `source` as it takes a step, put together, on its device
    and, where that is float64, in its dtype. On CUDA a step's are made while the device is at the step before."""

    def __init__(self, source: Any, system: System, asked: Settings, ranks: Ranks) -> None:
        self._source, self._system, self._asked = source, system, asked
        self.batches = self._batches(asked.workers, ranks)
        self._staging = Staging(system.device) if system.device.type == "cuda" else None
        self._waited = 0.0  # seconds
        self._filling = False  # whether pictures were put into memory meanwhile

    def next(self, interruption: Interruption) -> Batch:
        """Of the next step. Interrupted by a signal, with the place in the data as it was."""
        began = time.perf_counter()
        place = self.batches.state_dict()
        self._filling |= self.batches.filling
        try:
            with interruption.at_once():
                batch = self._staging.put(self._take) if self._staging else self._take()
        except Interrupted:
            self.batches.load_state_dict(place)
            raise
        if not self.batches.held:  # else they are there at once
            self._waited += time.perf_counter() - began
        if self._system.dtype == torch.float64:
            batch = batch.map(lambda values: values.double() if values.is_floating_point() else values)
        return batch

    def waited(self) -> tuple[float, bool]:
        """The seconds spent waiting for data since the last call; and whether that was for pictures that are in memory
        from then on."""
        waited, filling = self._waited, self._filling
        self._waited, self._filling = 0.0, False
        return waited, filling

    def again(self) -> Batches:
        """The data from the beginning, for this process alone; nothing of them is kept in memory."""
        return self._batches(0, Ranks(), memory=0)

    def _take(self) -> Batch:
        return Batch.cat([next(self.batches) for _ in range(self._system.batches)])

    def _batches(self, workers: int | None, ranks: Ranks, memory: int | None = None) -> Batches:
        return Batches(
            self._source,
            self._asked.batch_size,
            seed=self._asked.seed,
            device=self._system.device,
            channels_last=self._asked.channels_last,
            flip=self._asked.flip,
            jitter=self._asked.jitter,
            workers=workers,
            rank=ranks.rank,
            ranks=ranks.count,
            memory=memory,
        )
