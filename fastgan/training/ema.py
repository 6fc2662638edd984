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

    static: `update` reads nothing that changes on the host, so that a recording of it can be replayed: 1 - d lies on
    the device, where `begin` puts it before each update.
    """

    def __init__(self, system: System, decay: float, *, static: bool = False) -> None:
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
        copied = [name for name in self._values if name not in set(floating)]
        self._copied = [self.averages[name] for name in copied], [self._values[name] for name in copied]
        self._share = 0.0  # 1 - d, on the device
        self._static = torch.zeros((), device=system.device) if static else None

    def begin(self) -> None:
        """What an update does on the host, where it is `static`."""
        if self._static is not None and (share := self._next()) != self._share:
            self._static.fill_(share)
            self._share = share

    def _next(self) -> float:
        self.updates += 1
        return 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self) -> None:
        averages, values = self._pairs
        if self._static is None:
            torch._foreach_lerp_(averages, values, self._next())
        else:
            torch._foreach_add_(averages, torch._foreach_mul(torch._foreach_sub(values, averages), self._static))
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)

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
