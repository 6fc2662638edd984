"""Exponential moving average of a system's generators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from fastgan.systems.base import System


class EMA:
    """average <- average + (1 - d) (value - average), with d = min(decay, (1 + t) / (10 + t)) at update t = 1, 2, ...

    It holds parameters and buffers of the submodules in `system.averaged`; whole-number buffers are copied.
    The early d lets the average forget the random initialisation (as TensorFlow's ExponentialMovingAverage does).
    """

    def __init__(self, system: System, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"the decay of the moving average must lie between 0 and 1, not {decay}")
        self.decay = decay
        self.updates = 0
        self._values = {
            name: value
            for name, value in system.state_dict(keep_vars=True).items()
            if name.partition(".")[0] in system.averaged
        }
        self.averages = {name: value.detach().clone() for name, value in self._values.items()}
        floating = [name for name, value in self._values.items() if value.is_floating_point()]
        self._pairs = [self.averages[name] for name in floating], [self._values[name] for name in floating]
        self._copied = [name for name in self._values if name not in set(floating)]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(*self._pairs, 1 - decay)
        for name in self._copied:
            self.averages[name].copy_(self._values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the system itself carries the averages. Nothing may train meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "averages": self.averages}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, object]) -> None:
        averages: dict[str, Tensor] = state["averages"]  # type: ignore[assignment]
        if averages.keys() != self.averages.keys():
            raise ValueError("the moving average in the checkpoint belongs to other networks")
        for name, average in self.averages.items():
            average.copy_(averages[name])
        self.updates = state["updates"]  # type: ignore[assignment]

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._values.items():
            average = self.averages[name]
            kept = value.clone()
            value.copy_(average)
            average.copy_(kept)
