"""Exponential moving average of a system's generators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm

from fastgan.systems.base import System

STATISTICS = ("running_mean", "running_var")  # of maps: those of averaged weights are about the averages
ITERATIONS = 100  # of the power method, at most
EXACT = 1e-6  # the relative change of a spectral norm that ends it


class Spectral(NamedTuple):
    """A weight that is divided by its spectral norm, and its singular vectors, by their names."""

    weight: str
    u: str
    v: str
    matrix: Callable[[Tensor], Tensor]  # of the weight


class EMA:
    """average <- average + (1 - d) (value - average), with d = min(decay, (1 + t) / (10 + t)) at update t = 1, 2, ...

    It holds parameters and buffers of the submodules in `system.averaged`. Parameters are averaged, and of the buffers
    the running statistics of norms and those that a module names in `statistics`. All others are copied: counters,
    histories and unit vectors have no mean. The singular vectors of spectral norms (`torch.nn.utils`) become those of
    the averaged weights, so that these are divided by their own norm.
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
        clones = {id(value): value.detach().clone() for value in self._values.values()}
        self.averages = {name: clones[id(value)] for name, value in self._values.items()}
        # What stands there under two names is one tensor.
        self._names = list({id(value): name for name, value in self._values.items()}.values())
        self._spectral = list(_spectral(system, self._values))
        averaged = {name for name in self._names if _has_mean(system, name, self._values[name])}
        means, copied = ([name for name in self._names if (name in averaged) == wanted] for wanted in (True, False))
        self._pairs = [self.averages[name] for name in means], [self._values[name] for name in means]
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
        self._fit()
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, object]:
        self._fit()
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
    def _fit(self) -> None:
        """The singular vectors of averaged weights, by the power method from those of the weights themselves: a
        function of both, however often it is asked for."""
        for weight, u, v, matrix in self._spectral:
            wide = matrix(self.averages[weight])
            right, norm = self._values[v].clone(), 0.0
            for _ in range(ITERATIONS):
                left = F.normalize(wide @ right, dim=0)
                right = wide.mH @ left
                before, norm = norm, right.norm().item()
                right = F.normalize(right, dim=0)
                if abs(norm - before) <= EXACT * norm:
                    break
            self.averages[u].copy_(left)
            self.averages[v].copy_(right)

    @torch.no_grad()
    def _swap(self) -> None:
        for name in self._names:
            value, average = self._values[name], self.averages[name]
            kept = value.clone()
            value.copy_(average)
            average.copy_(kept)


def _has_mean(system: System, name: str, value: Tensor) -> bool:
    if isinstance(value, nn.Parameter):
        return value.is_floating_point() or value.is_complex()
    path, _, own = name.rpartition(".")
    return value.is_floating_point() and own in (*STATISTICS, *getattr(system.get_submodule(path), "statistics", ()))


def _spectral(system: System, names: Mapping[str, Tensor]) -> Iterator[Spectral]:
    for path, module in system.named_modules():
        if isinstance(module, ParametrizationList) and isinstance(module[0], _SpectralNorm):
            found = Spectral(f"{path}.original", f"{path}.0._u", f"{path}.0._v", module[0]._reshape_weight_to_matrix)
            if found.u in names:  # a vector's norm needs none
                yield found
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                own = f"{path}.{hook.name}"
                if f"{own}_u" in names:
                    yield Spectral(f"{own}_orig", f"{own}_u", f"{own}_v", hook.reshape_weight_to_matrix)
