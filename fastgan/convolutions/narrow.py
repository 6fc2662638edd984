"""The three products of a convolution between an image and a wide map, in float32 and bfloat16, on CPUs.

Matrix products and blocked convolutions fill a vector register with the channels of the result. Where that is an image,
of one or three channels, most of each register is empty: PyTorch's convolutions then reach a fifth of their usual rate.
Here a register holds channels of the wide map, and what comes of them is summed, in float32 for bfloat16, too. What is
large, small, `correlate`, `spread` and `weight_gradient` says products.py.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fastgan import backend
from fastgan.convolutions.products import Layer, channels_last, empty_map

MOST, LEAST_WIDE, MOST_TAPS = 4, 16, 16  # channels of the image, of the wide map; rows and columns of a kernel


def possible(layer: Layer) -> tuple[bool, bool, bool]:
    """Whether there are kernels for each product: what they give is the image, or the gradient of the weight."""
    small, large = layer.small <= MOST, layer.large <= MOST
    can = (
        max(layer.small, layer.large) >= LEAST_WIDE
        and (small or large)
        and layer.channels_last
        and layer.dtype in (torch.float32, torch.bfloat16)
        and max(layer.kernel) <= MOST_TAPS
        and backend.wanted() in ("auto", "native")
        and _compiled()
    )
    return can and small, can and large, can


@functools.cache
def _compiled() -> bool:
    return backend.library("cpu").usable and hasattr(torch.ops.fastgan, "narrow_correlate")


def correlate(large: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """(N, large, H, W), (small, large, kh, kw) -> (N, small, h, w), small <= MOST"""
    return torch.ops.fastgan.narrow_correlate(channels_last(large), weight, bias, *layer.stride, *layer.padding)


def spread(small: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """(N, small, h, w), (small, large, kh, kw) -> (N, large, H, W), large <= MOST"""
    settings = *layer.stride, *layer.padding, layer.height, layer.width
    return torch.ops.fastgan.narrow_spread(channels_last(small), weight, bias, *settings)


def weight_gradient(small: Tensor, large: Tensor, layer: Layer) -> Tensor:
    """(N, small, h, w), (N, large, H, W) -> (small, large, kh, kw)"""
    settings = *layer.kernel, *layer.stride, *layer.padding
    return torch.ops.fastgan.narrow_weight_gradient(channels_last(small), channels_last(large), *settings)


@backend.shape_function("narrow_correlate")
def _correlated(
    large: Tensor, weight: Tensor, bias: Tensor | None, stride_h: int, stride_w: int, *padding: int
) -> Tensor:
    sizes = zip(large.shape[2:], padding, weight.shape[2:], (stride_h, stride_w))
    return empty_map(large, large.shape[0], weight.shape[0], *((s + 2 * p - k) // t + 1 for s, p, k, t in sizes))


@backend.shape_function("narrow_spread")
def _spread(small: Tensor, weight: Tensor, bias: Tensor | None, *settings: int) -> Tensor:
    return empty_map(small, small.shape[0], weight.shape[1], *settings[4:])


@backend.shape_function("narrow_weight_gradient")
def _weight_gradient(small: Tensor, large: Tensor, kernel_h: int, kernel_w: int, *settings: int) -> Tensor:
    return empty_map(small, small.shape[1], large.shape[1], kernel_h, kernel_w)
