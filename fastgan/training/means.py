"""Means of what a step logs, summed on the device and read now and then."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastgan.distributed import Ranks
from fastgan.training.nonfinite import NonFinite


class Means:
    """Of the values since they were last taken. Nothing here waits for the device but `read` and `take`."""

    def __init__(self, ranks: Ranks) -> None:
        self.steps = 0  # that were summed
        self._ranks = ranks
        self._names: list[str] = []
        self._sums: Tensor | None = None

    def add(self, values: dict[str, Tensor]) -> None:
        """The values of a step; a part of its recording. `steps` is for whoever replays it to count."""
        if self._sums is None or set(values) != set(self._names):
            self._names, self._sums, self.steps = list(values), None, 0
        stacked = torch.stack([values[name] for name in self._names])
        if self._sums is None:
            self._sums = torch.zeros_like(stacked)
        self._sums.add_(stacked)

    def read(self, step: int) -> dict[str, float]:
        """NonFinite if one is not finite. To be called in all processes at once, at step number `step`."""
        if self._sums is None or not self.steps:
            return {}
        self._ranks.average_([self._sums])
        means = dict(zip(self._names, (self._sums / self.steps).tolist()))
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise NonFinite(f"{name} became {mean} in the {self.steps} steps before step {step}")
        return means

    def take(self, step: int) -> dict[str, float]:
        """`read`, and begin anew."""
        means = self.read(step)
        if self._sums is not None:
            self._sums.zero_()  # in place: recordings add to it
        self.steps = 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"names": self._names, "sums": self._sums, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self._names, self.steps = state["names"], state["steps"]
        self._sums = None if state["sums"] is None else state["sums"].to(device)
