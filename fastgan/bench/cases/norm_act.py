"""norm_act against the two calls that it replaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan import ops
from fastgan.bench import timing
from fastgan.bench.timing import check_accuracy
from fastgan.nn import NormAct2d
from fastgan.reference import norm_act as reference

DCGAN_SHAPES = ((64, 64, 32, 32), (64, 128, 16, 16), (64, 256, 8, 8), (64, 512, 4, 4))
TINY = (2, 4, 2, 2)  # nothing to compute: what is left is the cost of a call


@dataclass(frozen=True)
class NormActCase:
    """Forward and backward of normalise + leaky ReLU, against the two calls it replaces, the second in place."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    layout: torch.memory_format
    instance: bool = False
    device: str = "cpu"

    def __str__(self) -> str:
        layout = "channels_last" if self.layout == torch.channels_last else "contiguous"
        kind = "instance " if self.instance else ""
        return f"norm_act {kind}leaky_relu {self.shape} {str(self.dtype)[6:]} {layout}"

    @property
    def facts(self) -> dict[str, Any]:
        # Forward: x twice, y once. Backward: x and the gradient twice each, the result once.
        moved = 8 * math.prod(self.shape) * self.dtype.itemsize
        return {"shape": list(self.shape), "dtype": str(self.dtype)[6:], "least bytes unfused in cache": moved}

    def variants(self) -> dict[str, Callable[[], list[Tensor]]]:
        """Name -> call that returns [y, gradients]; checked before they are handed out."""
        generator = torch.Generator().manual_seed(0)
        channels = self.shape[1]

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(self.device)

        x, grad_y = (random(*self.shape).to(self.dtype).contiguous(memory_format=self.layout) for _ in range(2))
        weight, bias = random(channels), random(channels)
        leaves = [t.requires_grad_() for t in (x, weight, bias)]
        mean, var = (make(channels, device=self.device) for make in (torch.zeros, torch.ones))

        def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            if self.instance:
                return F.leaky_relu_(F.instance_norm(x, None, None, weight, bias), 0.2)
            return F.leaky_relu_(F.batch_norm(x, mean, var, weight, bias, True), 0.2)

        def fused(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            running = (None, None) if self.instance else (mean, var)
            return ops.norm_act(x, weight, bias, *running, act="leaky_relu", slope=0.2, instance=self.instance)

        def call(function: Callable[..., Tensor]) -> Callable[[], list[Tensor]]:
            def run() -> list[Tensor]:
                y = function(*leaves)
                return [y, *torch.autograd.grad(y, leaves, grad_y)]

            return run

        result = {"batch_norm + leaky_relu_": call(eager), "fastgan": call(fused)}
        self._check(result, leaves, grad_y)
        if self.device == "cuda":
            compiled = torch.compile(eager, dynamic=False)
            return timing.all_captured({**result, "torch.compile": call(compiled)})
        return result

    def _check(self, variants: dict[str, Callable[[], list[Tensor]]], leaves: list[Tensor], grad_y: Tensor) -> None:
        exact_leaves = [t.detach().double().requires_grad_() for t in leaves]
        y = reference.norm_act(*exact_leaves, act="leaky_relu", slope=0.2, instance=self.instance)
        exact = [y, *torch.autograd.grad(y, exact_leaves, grad_y.double())]
        theirs, ours = (call() for call in variants.values())
        check_accuracy(str(self), ours, theirs, exact, ("y", "grad x", "grad weight", "grad bias"))


@dataclass(frozen=True)
class HostCase:
    """What a block costs the host: inputs with next to nothing to compute, launched one after the other."""

    device: str

    def __str__(self) -> str:
        return "norm_act on the host"

    @property
    def facts(self) -> dict[str, Any]:
        return {"op": "norm_act", "shape": list(TINY), "dtype": "float32"}

    def variants(self) -> dict[str, Callable[[], Any]]:
        x = torch.randn(TINY, device=self.device).requires_grad_()
        blocks = {
            "BatchNorm2d, LeakyReLU": torch.nn.Sequential(torch.nn.BatchNorm2d(TINY[1]), torch.nn.LeakyReLU(0.2, True)),
            "fastgan": NormAct2d(TINY[1], "leaky_relu"),
        }
        for block in blocks.values():
            block.to(self.device)
        return {name: lambda block=block: block(x).sum().backward() for name, block in blocks.items()}  # type: ignore[misc]


def cuda_cases() -> Iterator[NormActCase | HostCase]:
    for batch in (1024, 128):
        for _, channels, height, width in DCGAN_SHAPES:
            yield NormActCase((batch, channels, height, width), torch.bfloat16, torch.channels_last, device="cuda")
    yield NormActCase((1024, 64, 32, 32), torch.float32, torch.channels_last, device="cuda")
    yield NormActCase((1024, 64, 32, 32), torch.bfloat16, torch.contiguous_format, device="cuda")
    yield HostCase("cuda")


def cases() -> Iterator[NormActCase]:
    for shape in (*DCGAN_SHAPES, TINY):
        for layout in (torch.channels_last, torch.contiguous_format):
            for dtype in (torch.float32, torch.bfloat16):
                yield NormActCase(shape, dtype, layout)
    for layout in (torch.channels_last, torch.contiguous_format):
        yield NormActCase((1, 256, 64, 64), torch.float32, layout, instance=True)  # CycleGAN's residual blocks
