"""The three products of a convolution in float32 by Winograd's method, on CPUs, with fewer multiplications.

Two results along an axis, of r taps, need r + 1 products instead of 2 r, of sums and differences of pixels and of taps;
on both axes 16 instead of 36 for a 3x3 kernel (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray,
"Fast algorithms for convolutional neural networks", 2016). A kernel of 4x4 with stride 2 is, at each of the four places
in the stride, one of 2x2: 9 products instead of 16, with sums and differences alone. One of 5x5 with stride 2 is one of
6x6 that has a row and a column of zeros: 64 products instead of 100. One of 4x4 without a stride is the sum of four of
2x2, one a quarter of the kernel: 9 products instead of 16 again. What is large, small, `correlate`, `spread` and
`weight_gradient` says products.py.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import backend
from fastgan.convolutions.products import LARGEST_BUFFER, Layer, channels_last, empty_map


def possible(layer: Layer) -> bool:
    """Whether there are kernels for it: float32, channels_last, a square kernel of two or three strides, 5x5 with
    stride 2, or 4x4 with stride 1."""
    kernel, stride = layer.kernel, layer.stride
    return (
        layer.dtype is torch.float32
        and layer.channels_last
        and kernel[0] == kernel[1]
        and stride[0] == stride[1]
        and (kernel[0] in (2 * stride[0], 3 * stride[0]) or _is_grown(layer) or is_cut(layer))
        and max(layer.padding) < kernel[0]
        and backend.wanted() in ("auto", "native")
        and _compiled()
    )


def tiles(layer: Layer) -> int:
    """2x2 pixels of all small maps, which a method has in common."""
    return layer.images * ((layer.h + 1) // 2) * ((layer.w + 1) // 2)


def meets(layer: Layer, least: int) -> bool:
    """Whether the transformed weight fits in a buffer and meets at least so many tiles."""
    side = layer.kernel_h + _is_grown(layer) + layer.stride_h * (1 + is_cut(layer))
    return tiles(layer) >= least and 4 * layer.channels * side**2 <= LARGEST_BUFFER


def transforms(layer: Layer) -> int:
    """How much of the small map `spread` transforms: once for each place in the stride, of twice as many for a grown
    kernel, or for each part of one that is cut."""
    return layer.stride_h * (1 + (_is_grown(layer) or is_cut(layer)))


def is_cut(layer: Layer) -> bool:
    """Whether the kernel is 4x4 with stride 1, which is computed in quarters."""
    return layer.kernel == (4, 4) and layer.stride == (1, 1)


def _is_grown(layer: Layer) -> bool:
    """Whether the kernel is 5x5 with stride 2, which is computed as 6x6."""
    return layer.kernel == (5, 5) and layer.stride == (2, 2)


def _zeros_before(layer: Layer) -> tuple[int, int]:
    """Rows and columns of zeros before a kernel that is grown by one, else after it: where the small map keeps its
    size, which the kernels compute from that of the large one."""
    if not _is_grown(layer):
        return 0, 0
    sizes = zip((layer.height, layer.width), layer.padding)
    before_h, before_w = ((size + 2 * padding - 5) % 2 == 0 for size, padding in sizes)
    return int(before_h), int(before_w)


def _weight(weight: Tensor, layer: Layer) -> Tensor:
    if not _is_grown(layer):
        return weight
    top, left = _zeros_before(layer)
    return F.pad(weight, (left, 1 - left, top, 1 - top))


def _padding(layer: Layer) -> tuple[int, int]:
    top, left = _zeros_before(layer)
    return layer.padding_h + top, layer.padding_w + left


@functools.cache
def _compiled() -> bool:
    return backend.library("cpu").usable and hasattr(torch.ops.fastgan, "winograd_correlate")


def correlate(large: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """(N, large, H, W), (small, large, k, k) -> (N, small, h, w)"""
    bias = None if bias is None else bias.contiguous()
    settings = layer.stride_h, *_padding(layer)
    return torch.ops.fastgan.winograd_correlate(channels_last(large), _weight(weight, layer), bias, *settings)


def spread(small: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
    """(N, small, h, w), (small, large, k, k) -> (N, large, H, W)"""
    bias = None if bias is None else bias.contiguous()
    settings = layer.stride_h, *_padding(layer), layer.height, layer.width
    return torch.ops.fastgan.winograd_spread(channels_last(small), _weight(weight, layer), bias, *settings)


def weight_gradient(small: Tensor, large: Tensor, layer: Layer) -> Tensor:
    """(N, small, h, w), (N, large, H, W) -> (small, large, k, k)"""
    settings = layer.stride_h, layer.kernel_h + _is_grown(layer), *_padding(layer)
    gradient = torch.ops.fastgan.winograd_weight_gradient(channels_last(small), channels_last(large), *settings)
    if not _is_grown(layer):
        return gradient
    top, left = _zeros_before(layer)
    return channels_last(gradient[:, :, top : top + 5, left : left + 5])


@backend.shape_function("winograd_correlate")
def _correlated(large: Tensor, weight: Tensor, bias: Tensor | None, stride: int, *padding: int) -> Tensor:
    sizes = [(s + 2 * p - weight.shape[2]) // stride + 1 for s, p in zip(large.shape[2:], padding)]
    return empty_map(large, large.shape[0], weight.shape[0], *sizes)


@backend.shape_function("winograd_spread")
def _spread(small: Tensor, weight: Tensor, bias: Tensor | None, stride: int, *settings: int) -> Tensor:
    return empty_map(small, small.shape[0], weight.shape[1], *settings[2:])


@backend.shape_function("winograd_weight_gradient")
def _weight_gradient(small: Tensor, large: Tensor, stride: int, kernel: int, *padding: int) -> Tensor:
    return empty_map(small, small.shape[1], large.shape[1], kernel, kernel)
