"""Lazy regularisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn


class Lazy(nn.Module):
    """A penalty every n-th call, n times as strong: Karras et al. 2020 (arXiv:1912.04958), appendix B.

        penalty = Lazy(r1, every=16)
        loss = adversarial + penalty(discriminator, real, gamma=1.0)

    The first call and every n-th after it return `every * penalty(...)`, the others a zero without a graph, so that the
    mean over a period is the penalty itself. The zero is a float32 scalar (float64 beside float64 tensors) on the
    device of the first tensor among the arguments, without one on the CPU, where a scalar adds to any tensor. A call
    that raises does not count. The number of calls is part of the state_dict, so that a resumed run goes on with it.

    StyleGAN2 also takes Adam's learning rate and the logarithms of its betas times n / (n + 1) for the network whose
    penalty is lazy, because there the penalty has a step of its own; added to a loss, as here, it has none.

    every: n, at least 1. ValueError or TypeError for another.
    """

    def __init__(self, penalty: Callable[..., Tensor], every: int = 16) -> None:
        super().__init__()
        if not callable(penalty):
            raise TypeError(f"penalty must be callable, not {type(penalty).__name__}")
        if not isinstance(every, int) or isinstance(every, bool):
            raise TypeError(f"every must be an integer, not {type(every).__name__}")
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        self.penalty = penalty
        self.every = every
        self.calls = 0  # so far

    @property
    def due(self) -> bool:
        """Whether the next call computes the penalty."""
        return self.calls % self.every == 0

    def forward(self, *arguments: Any, **named: Any) -> Tensor:
        value = self.every * self.penalty(*arguments, **named) if self.due else _zero(*arguments, *named.values())
        self.calls += 1
        if not torch.compiler.is_dynamo_compiling() and (counts := _counts.get()) is not None:
            counts[self] = counts.get(self, 0) + 1
        return value

    def get_extra_state(self) -> Tensor:
        return torch.tensor(
            self.calls, device="cpu"
        )  # int64: a tensor, so that every format of state_dicts can hold it

    def set_extra_state(self, state: Any) -> None:
        self.calls = int(state)

    def extra_repr(self) -> str:
        return f"{getattr(self.penalty, '__name__', type(self.penalty).__name__)}, every={self.every}"


_counts: ContextVar[dict[Lazy, int] | None] = ContextVar("lazy calls", default=None)


@contextmanager
def counted() -> Iterator[dict[Lazy, int]]:
    """The calls of each lazy penalty inside the block, for whoever repeats them without calling."""
    counts: dict[Lazy, int] = {}
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)


def _zero(*arguments: Any) -> Tensor:
    def tensors() -> Iterator[Tensor]:
        return (a for a in arguments if isinstance(a, Tensor) and a.is_floating_point())

    first = next(tensors(), None)
    if first is None:
        return torch.zeros(())
    return torch.zeros((), dtype=torch.promote_types(first.dtype, torch.float32), device=first.device)
