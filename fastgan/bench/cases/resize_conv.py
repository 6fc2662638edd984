"""resize_conv against nearest upsampling and a convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan import ops
from fastgan.bench.timing import WrongResult
from fastgan.reference.conv_pool import conv_pool
from fastgan.reference.resize_conv import resize_conv

Calls = dict[str, Callable[[], list[Tensor]]]
_FUNCTIONS: dict[str, tuple[str, Callable[..., Tensor], Callable[..., Tensor]]] = {
    "resize_conv": ("upsample + convolution", resize_conv, ops.resize_conv),
    "conv_pool": ("convolution + avg_pool2d", conv_pool, ops.conv_pool),
}


@dataclass(frozen=True)
class ResamplingCase:
    """Forward and backward of an op that replaces a pair of PyTorch's calls, channels_last."""

    op: str
    channels: tuple[int, int]  # before, after
    size: int  # pixels a side of the input
    batch: int
    dtype: torch.dtype
    kernel: int = 3

    def __str__(self) -> str:
        before, after = self.channels
        shape = f"({self.batch}, {self.size}, {self.size})"
        return f"{self.op} {self.kernel}x{self.kernel} {before}->{after} {shape} {str(self.dtype)[6:]} channels_last"

    @property
    def facts(self) -> dict[str, Any]:
        return {"op": self.op, "channels": list(self.channels), "dtype": str(self.dtype)[6:]}

    def variants(self) -> Calls:
        before, after = self.channels
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            made = torch.randn(shape, generator=generator).to(self.dtype)
            return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made

        weight = random(after, before, self.kernel, self.kernel).mul_(1 / (self.kernel * math.sqrt(before)))
        leaves = [random(self.batch, before, self.size, self.size), weight, random(after)]
        leaves = [t.requires_grad_() for t in leaves]
        name, pair, fused = _FUNCTIONS[self.op]
        grad_y = random(*pair(*leaves).shape)

        def call(function: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
            y = function(*tensors)
            return [y, *torch.autograd.grad(y, tensors, grad_y.to(y.dtype))]

        calls: Calls = {name: partial(call, pair, leaves), "fastgan": partial(call, fused, leaves)}
        self._check(call, pair, fused, leaves)
        return calls

    def _check(self, call: Any, pair: Any, fused: Any, leaves: list[Tensor]) -> None:
        """Root mean squares, with a few roundings more than twice PyTorch's own: in float32 its strided convolutions
        add up in longer chains than the others."""
        exact = call(pair, [t.detach().double().requires_grad_() for t in leaves])
        for name, ours, theirs, e in zip(("y", "x", "weight", "bias"), call(fused, leaves), call(pair, leaves), exact):
            error, own, size = (float(t.detach().square().mean().sqrt()) for t in (ours - e, theirs - e, e))
            if not error <= 2 * own + _ROUNDINGS * torch.finfo(torch.float32).eps * size:
                raise WrongResult(f"{self}: {name} is off by {error:.2e}, PyTorch itself by {own:.2e}")


_ROUNDINGS = 16  # of float32


def cases(op: str = "resize_conv") -> Iterator[ResamplingCase]:
    """The layers of a resize-convolution DCGAN at 64x64, and of an SNGAN at 32x32, or, of conv_pool, their mirrors."""
    layers = [((512, 256), 4, 64), ((256, 128), 8, 64), ((128, 64), 16, 64), ((64, 3), 32, 64), ((256, 256), 8, 32),
              ((64, 32), 8, 2), ((8, 8), 4, 4)]  # fmt: skip
    for dtype in (torch.float32, torch.bfloat16):
        for (before, after), size, batch in layers:
            if op == "conv_pool":
                before, after, size = after, before, 2 * size
            yield ResamplingCase(op, (before, after), size, batch, dtype)
