"""Batches made while the step before runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fastgan.training.graph import flatten, mapped


class Staging:
    """Two places on a CUDA device that batches are put into in turn, on a stream of their own.

        batch = staging.put(lambda: next(batches))

    The host makes a batch while the device is still at the step before: its copies and its normalisation run beside
    that step, not after it. A batch stays as it is until the next but one is put, by when the device has used it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._places: list[Any] = [None, None]
        self._kinds: list[Any] = [None, None]
        self._used = [torch.cuda.Event(), torch.cuda.Event()]  # when the step that read this place was through
        self._turn = 0

    def put(self, make: Callable[[], Any]) -> Any:
        """What `make` makes, in a place that the current stream may read from."""
        current = torch.cuda.current_stream(self._device)
        self._used[self._turn].record(current)  # the step before, which read this place, was launched there
        self._turn = 1 - self._turn
        if self._kinds[self._turn] is None:  # the data set may have come to the device just now
            self._stream.wait_stream(current)
        self._stream.wait_event(self._used[self._turn])
        with torch.cuda.stream(self._stream):
            batch = make()
            tensors, kind = flatten(batch)
            if self._kinds[self._turn] != kind:
                self._places[self._turn] = mapped(batch, torch.empty_like)
                self._kinds[self._turn] = kind
                mapped(self._places[self._turn], lambda tensor: tensor.record_stream(current))
            place = self._places[self._turn]
            for tensor, held in zip(tensors, flatten(place)[0]):
                held.copy_(tensor, non_blocking=True)
        current.wait_stream(self._stream)
        return place
