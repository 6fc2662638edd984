"""Values that are no longer finite: which tensor was the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class NonFinite(FloatingPointError):
    """A value became nan or infinite; the message says which and where."""


@dataclass(frozen=True)
class Finding:
    tensor: str
    value: str  # "nan" or "infinite"
    phase: str
    step: int

    def __str__(self) -> str:
        return f"{self.tensor} became {self.value} in phase {self.phase} of step {self.step}"


class Check:
    """Looks at every tensor of a step and remembers the first that is not finite. It waits for the device each time."""

    def __init__(self, system: nn.Module) -> None:
        self._names = {id(parameter): name for name, parameter in system.named_parameters()}
        self._buffers = dict(system.named_buffers())
        self.step = 0  # the running one
        self.found: Finding | None = None

    def prepared(self, state: Any) -> None:
        fields = state._asdict() if hasattr(state, "_asdict") else getattr(state, "__dict__", {})
        self._look("prepare", fields.items())

    def forward(self, phase: str, loss: Tensor, logged: Mapping[str, Tensor]) -> None:
        self._look(phase, [*self._buffers.items(), ("loss", loss), *logged.items()])

    def backward(self, phase: str, trained: Sequence[Tensor]) -> None:
        # The gradients of the last layers are computed first.
        self._look(phase, ((f"the gradient of {self._names[id(p)]}", p.grad) for p in reversed(trained)))

    def updated(self, phase: str, trained: Sequence[Tensor]) -> None:
        self._look(phase, ((self._names[id(parameter)], parameter) for parameter in trained))

    def _look(self, phase: str, tensors: Iterable[tuple[str, Any]]) -> None:
        if self.found is None:
            name = not_finite(tensors)
            self.found = name and Finding(*name, phase, self.step)


def not_finite(tensors: Iterable[tuple[str, Any]]) -> tuple[str, str] | None:
    """The name of the first tensor with a value that is not finite, and "nan" or "infinite"; None if there is none."""
    floating = [(n, t.detach()) for n, t in tensors if isinstance(t, Tensor) and t.is_floating_point() and t.numel()]
    if not floating:
        return None
    # The largest magnitude of each: nan where there is one, one number to wait for.
    largest = torch.stack([norm.double() for norm in torch._foreach_norm([t for _, t in floating], float("inf"))])
    if largest.isfinite().all():
        return None
    for (name, _), value in zip(floating, largest.tolist()):
        if value != value:
            return name, "nan"
        if value == float("inf"):
            return name, "infinite"
    return None


def below(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dictionaries, by their names there."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from below(item, f"{name}.{key}" if name else str(key))
