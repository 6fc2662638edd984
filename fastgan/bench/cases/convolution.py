"""The convolutions of large layers, and those between an image and a wide map: forward, input gradient and weight
gradient, each as it is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan import tuning
from fastgan.bench.timing import check_accuracy
from fastgan.convolutions import convolution, products, rules


@dataclass(frozen=True)
class ConvolutionCase:
    """One of the three products of a convolution, or of a transposed one with the maps exchanged, channels_last."""

    product: str  # correlate (forward), spread (input gradient) or weight_gradient
    dtype: torch.dtype
    batch: int = 64
    large: int = 256  # channels of the large map
    small: int = 512
    size: int = 8  # of the large map
    kernel: int = 4
    stride: int = 2
    padding: int = 1

    def __str__(self) -> str:
        return (
            f"{self.product}, {self.large}x{self.size}x{self.size} to {self.small} channels, kernel {self.kernel}, "
            f"stride {self.stride}, batch {self.batch}, {str(self.dtype)[6:]}"
        )

    @property
    def layer(self) -> products.Layer:
        size = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        return products.Layer(
            *(self.batch, self.small, self.large, size, size, self.size, self.size, self.kernel, self.kernel),
            *(self.stride, self.stride, self.padding, self.padding, self.dtype, True, True),
        )

    @property
    def facts(self) -> dict[str, Any]:
        layer = self.layer
        multiplications = layer.images * layer.h * layer.w * layer.small * layer.large * layer.kernel_h * layer.kernel_w
        return {"shape": list(layer[:13]), "dtype": str(self.dtype)[6:], "flop": 2 * multiplications}

    def variants(self) -> dict[str, Callable[[], Tensor]]:
        ways = convolution._candidates(self.product, self.layer)
        exact = ways.pop(tuning.EXACT)()
        theirs = ways[rules.TORCH]()
        for name, way in ways.items():
            check_accuracy(f"{self}: {name}", [way()], [theirs], [exact], [self.product])
        chosen = rules.fastest(self.layer)[rules.PRODUCTS.index(self.product)]
        return {"convolution": ways[rules.TORCH], "fastgan": ways[chosen]}


def cases() -> Iterator[ConvolutionCase]:
    for dtype in (torch.float32, torch.bfloat16):
        for product in rules.PRODUCTS:
            yield ConvolutionCase(product, dtype)
    for product in rules.PRODUCTS:
        yield ConvolutionCase(product, torch.float32, large=64, small=128, size=32)
        yield ConvolutionCase(product, torch.float32, large=128, small=256, size=16)
        yield ConvolutionCase(product, torch.float32, large=128, small=128, size=16, kernel=3, stride=1)
        yield ConvolutionCase(product, torch.float32, large=128, small=256, size=16, kernel=5, padding=2)
    for dtype in (torch.float32, torch.bfloat16):
        for product in ("correlate", "weight_gradient"):  # SRGAN's last layer
            yield ConvolutionCase(product, dtype, batch=8, large=64, small=3, size=96, kernel=9, stride=1, padding=4)
        yield ConvolutionCase("spread", dtype, large=3, small=64, size=64)  # DCGAN's last layer
    yield ConvolutionCase("weight_gradient", torch.bfloat16, large=128, small=256, size=16)
    yield ConvolutionCase("weight_gradient", torch.bfloat16, large=512, small=512, size=4, kernel=3, stride=1)
