"""bias_act against the two calls that it replaces, alone and, by `fuse`, after a convolution; activations alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgan import fuse, ops
from fastgan.bench.cases.norm_act import DCGAN_SHAPES, TINY
from fastgan.bench.timing import all_captured, check_accuracy

Calls = dict[str, Callable[[], list[Tensor]]]


def _random(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format, seed: int, device: str = "cpu"
) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    return values.to(dtype).contiguous(memory_format=layout)


def _forward_backward(function: Callable[..., Tensor], leaves: list[Tensor], grad_y: Tensor) -> list[Tensor]:
    y = function(*leaves)
    return [y, *torch.autograd.grad(y, leaves, grad_y.to(y.dtype))]


def _name(layout: torch.memory_format) -> str:
    return "channels_last" if layout == torch.channels_last else "contiguous"


@dataclass(frozen=True)
class BiasActCase:
    """Forward and backward of bias + leaky ReLU."""

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    layout: torch.memory_format
    device: str = "cpu"

    def __str__(self) -> str:
        return f"bias_act leaky_relu {self.shape} {str(self.dtype)[6:]} {_name(self.layout)}"

    @property
    def facts(self) -> dict[str, Any]:
        moved = 5 * math.prod(self.shape) * self.dtype.itemsize  # x, y; y, the gradient, the result
        return {"op": "bias_act", "shape": list(self.shape), "dtype": str(self.dtype)[6:], "least bytes": moved}

    def variants(self) -> Calls:
        x = _random(self.shape, self.dtype, self.layout, 0, self.device).requires_grad_()
        bias = _random(self.shape[1:2], self.dtype, torch.contiguous_format, 1, self.device).requires_grad_()
        grad_y = _random(self.shape, self.dtype, self.layout, 2, self.device)

        def eager(act: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda x, bias: act(x + bias.view(-1, 1, 1), 0.2)

        def fused(x: Tensor, bias: Tensor) -> Tensor:
            return ops.bias_act(x, bias, act="leaky_relu", slope=0.2)

        functions = {
            "bias add + leaky_relu_": eager(F.leaky_relu_), "bias add + leaky_relu": eager(F.leaky_relu),
            "fastgan": fused,
        }  # fmt: skip
        calls: Calls = {name: partial(_forward_backward, f, [x, bias], grad_y) for name, f in functions.items()}
        leaves = [t.detach().double().requires_grad_() for t in (x, bias)]
        exact = _forward_backward(eager(F.leaky_relu), leaves, grad_y.double())
        check_accuracy(str(self), calls["fastgan"](), calls["bias add + leaky_relu_"](), exact, ("y", "x", "bias"))
        if self.device == "cuda":
            return all_captured(calls)
        return calls


@dataclass(frozen=True)
class ActCase:
    """Forward and backward of an activation that overwrites its input, or of one that does not."""

    act: str
    shape: tuple[int, int, int, int]
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"activation {self.act} {self.shape} {str(self.dtype)[6:]} channels_last"

    @property
    def facts(self) -> dict[str, Any]:
        return {"op": "bias_act", "act": self.act, "shape": list(self.shape), "dtype": str(self.dtype)[6:]}

    def variants(self) -> Calls:
        x, grad_y = (_random(self.shape, self.dtype, torch.channels_last, seed) for seed in range(2))
        eager: dict[str, Callable[[Tensor], Tensor]] = {
            "elu": F.elu_, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "silu": F.silu
        }  # fmt: skip

        def fused(x: Tensor) -> Tensor:
            return ops.bias_act(x, act=self.act, slope=1.0, inplace=self.act == "elu")

        def of_copy(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            return lambda x: function(x.clone())  # as a convolution gives it: a leaf cannot be overwritten

        functions = {self.act: of_copy(eager[self.act]), "fastgan": of_copy(fused)}
        calls: Calls = {
            name: partial(_forward_backward, f, [x.requires_grad_()], grad_y) for name, f in functions.items()
        }
        exact = _forward_backward(functions[self.act], [x.detach().double().requires_grad_()], grad_y.double())
        check_accuracy(str(self), calls["fastgan"](), calls[self.act](), exact, ("y", "x"))
        return calls


@dataclass(frozen=True)
class ConvBiasActCase:
    """Forward and backward of convolution -> leaky ReLU, as a discriminator without norms has it, before and after
    `fuse`."""

    channels: tuple[int, int]
    size: int  # pixels a side
    dtype: torch.dtype
    bias: bool = True
    kernel: int = 4  # with stride 2, or 3 with stride 1
    batch: int = 16

    def __str__(self) -> str:
        kind = f"{self.kernel}x{self.kernel}/{self.stride} {self.channels[0]}->{self.channels[1]}"
        return (
            f"convolution {kind}{'' if self.bias else ' without bias'} + leaky_relu "
            f"({self.batch}, {self.size}, {self.size}) {str(self.dtype)[6:]} channels_last"
        )

    @property
    def stride(self) -> int:
        return self.kernel - 2

    @property
    def facts(self) -> dict[str, Any]:
        return {"op": "convolution + bias_act", "channels": list(self.channels), "dtype": str(self.dtype)[6:]}

    def variants(self) -> Calls:
        before, after = self.channels
        conv = nn.Conv2d(before, after, self.kernel, self.stride, 1, bias=self.bias)
        for seed, parameter in enumerate(conv.parameters(), 1):
            values = _random(parameter.shape, torch.float32, torch.contiguous_format, seed)
            parameter.data = values / (self.kernel * math.sqrt(before) if values.dim() > 1 else 1)
        conv.to(self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        networks = {
            "leaky_relu": nn.Sequential(conv, nn.LeakyReLU(0.2)),
            "leaky_relu_": nn.Sequential(conv, nn.LeakyReLU(0.2, inplace=True)),
            "fastgan": fuse(nn.Sequential(conv, nn.LeakyReLU(0.2, inplace=True))),
        }
        x = _random((self.batch, before, self.size, self.size), self.dtype, torch.channels_last, 0).requires_grad_()
        size = self.size // self.stride
        grad_y = _random((self.batch, after, size, size), self.dtype, torch.channels_last, 3)

        def call(network: nn.Module, x: Tensor, grad_y: Tensor) -> list[Tensor]:
            return _forward_backward(lambda x, *_: network(x), [x, *network.parameters()], grad_y)

        calls: Calls = {name: partial(call, network, x, grad_y) for name, network in networks.items()}
        double, exact_x = copy.deepcopy(networks["leaky_relu"]).double(), x.detach().double().requires_grad_()
        # Near 0 the rounding of a sum decides about its derivative, whoever computes it.
        grad_y *= double(exact_x).detach().abs() > 1e-2
        exact = call(double, exact_x, grad_y.double())
        check_accuracy(str(self), calls["fastgan"](), calls["leaky_relu"](), exact, ("y", "x", "weight", "bias"))
        return calls


def cuda_cases() -> Iterator[BiasActCase]:
    for batch in (1024, 128):
        yield BiasActCase((batch, 64, 32, 32), torch.bfloat16, torch.channels_last, "cuda")


def cases() -> Iterator[BiasActCase | ActCase | ConvBiasActCase]:
    for shape in (*DCGAN_SHAPES, (16, 64, 64, 64), TINY):
        for layout in (torch.channels_last, torch.contiguous_format):
            for dtype in (torch.float32, torch.bfloat16):
                yield BiasActCase(shape, dtype, layout)
    for act in ("elu", "tanh", "sigmoid", "silu"):
        for shape in ((64, 32, 32, 32), (16, 64, 64, 64)):
            for dtype in (torch.float32, torch.bfloat16):
                yield ActCase(act, shape, dtype)
    for dtype in (torch.float32, torch.bfloat16):
        for channels, size, bias in (((3, 64), 128, True), ((64, 128), 64, True), ((3, 64), 64, False)):
            yield ConvBiasActCase(channels, size, dtype, bias)
        for channels, size in (((64, 64), 64), ((8, 8), 64), ((128, 128), 32), ((256, 256), 16), ((512, 512), 8)):
            yield ConvBiasActCase(channels, size, dtype, kernel=3)
