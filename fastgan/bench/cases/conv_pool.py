"""conv_pool against a convolution and average pooling."""

from __future__ import annotations

from collections.abc import Iterator

from fastgan.bench.cases import resize_conv


def cases() -> Iterator[resize_conv.ResamplingCase]:
    yield from resize_conv.cases("conv_pool")
