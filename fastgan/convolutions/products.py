"""The three products of a strided convolution as matrix products, for layers where oneDNN's convolution is slow.

A convolution has a large map, a small map (strided, or of the same size) and a weight between them; a transposed
convolution has the same three with forward and input gradient exchanged:

    correlate        large, weight -> small     forward of a convolution, input gradient of a transposed one
    spread           small, weight -> large     input gradient of a convolution, forward of a transposed one
    weight_gradient  small, large  -> weight    of both

`correlate` and `weight_gradient` multiply with the windows of the large map, one row a pixel of the small one (im2col:
Chellapilla, Puri, Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006). `spread`
takes the pixels of the large map by their place in the stride: at each such place it is a convolution of stride 1 with
every stride-th tap, so that no product is with an inserted zero, and no result is rounded before its sum is whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of windows at a time. Above 32 MB malloc returns memory that is new each time, which is slow.
LARGEST_BUFFER = 24 * 2**20


class Layer(NamedTuple):
    """What the speed of a product depends on, but for the machine. Two dimensions, one group, dilation 1."""

    images: int
    small: int  # channels of the small map, the first dimension of the weight
    large: int  # channels of the large map, the second
    h: int
    w: int  # of the small map
    height: int
    width: int  # of the large map
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    padding_h: int
    padding_w: int
    dtype: torch.dtype
    channels_last: bool  # the maps and the gradients
    weight_last: bool  # whether the weight is channels_last

    @property
    def size(self) -> tuple[int, int]:
        """Of the small map."""
        return self.h, self.w

    @property
    def kernel(self) -> tuple[int, int]:
        return self.kernel_h, self.kernel_w

    @property
    def stride(self) -> tuple[int, int]:
        return self.stride_h, self.stride_w

    @property
    def padding(self) -> tuple[int, int]:
        return self.padding_h, self.padding_w

    @property
    def taps(self) -> int:
        """Of the kernel."""
        return self.kernel_h * self.kernel_w

    @property
    def pixels(self) -> int:
        """Of the small map."""
        return self.h * self.w

    @property
    def rows(self) -> int:
        """Pixels of all small maps: rows of the matrices that are multiplied."""
        return self.images * self.h * self.w

    @property
    def channels(self) -> int:
        """Pairs of a small and a large channel: elements of the weight a tap."""
        return self.small * self.large

    @property
    def work(self) -> int:
        """Multiplications of a product, as a convolution has them."""
        return self.rows * self.taps * self.channels

    @property
    def least(self) -> int:
        """Channels of the narrower map."""
        return min(self.small, self.large)


Product = Callable[..., Tensor]  # (M, K), (K, N), bias (N,) or None -> (M, N)


def correlate(large: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer, product: Product) -> Tensor:
    """(N, large, H, W), (small, large, kh, kw) -> (N, small, h, w)"""
    kernel, size, padding = layer.kernel, layer.size, layer.padding
    matrix = weight.permute(0, 2, 3, 1).reshape(layer.small, -1).t()
    padded = _pad(_rows(large), (padding[0], padding[0], padding[1], padding[1]))
    parts = [
        product(_windows(part, kernel, layer.stride, size), matrix, bias)
        for part in padded.split(_images(layer, layer.h * layer.w * kernel[0] * kernel[1] * layer.large))
    ]
    result = parts[0] if len(parts) == 1 else torch.cat(parts)
    return _map(result.view(layer.images, *size, layer.small), layer)


def spread(small: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer, product: Product) -> Tensor:
    """(N, small, h, w), (small, large, kh, kw) -> (N, large, H, W)"""
    rows, taps = _rows(small), weight.permute(2, 3, 0, 1)
    result = rows.new_empty(layer.images, layer.height, layer.width, layer.large)
    for i in range(min(layer.stride_h, layer.height)):
        taps_i, before_i, count_i, after_i = _phase(i, layer, 0)
        for j in range(min(layer.stride_w, layer.width)):
            taps_j, before_j, count_j, after_j = _phase(j, layer, 1)
            matrix = torch.cat([taps[a, b] for a in taps_i for b in taps_j])
            padded = _pad(rows, (before_i, after_i, before_j, after_j))
            place = result[:, i :: layer.stride_h, j :: layer.stride_w]
            kernel, size = (len(taps_i), len(taps_j)), (count_i, count_j)
            images = _images(layer, count_i * count_j * len(taps_i) * len(taps_j) * layer.small)
            for part, target in zip(padded.split(images), place.split(images)):
                target.copy_(product(_windows(part, kernel, (1, 1), size), matrix, bias).view(target.shape))
    return _map(result, layer)


def weight_gradient(small: Tensor, large: Tensor, layer: Layer, product: Product) -> Tensor:
    """(N, small, h, w), (N, large, H, W) -> (small, large, kh, kw)"""
    kernel, size, stride = layer.kernel, layer.size, layer.stride
    padded = _pad(_rows(large), (layer.padding_h, layer.padding_h, layer.padding_w, layer.padding_w))
    columns = _rows(small).reshape(-1, layer.small).t()
    if weight_buffer(layer) <= LARGEST_BUFFER:
        result = product(columns, _windows(padded, kernel, stride, size), None)
    else:  # the sums stay whole, for what is rounded is the result
        rows = [padded[:, i : padded.shape[1] - kernel[0] + 1 + i] for i in range(kernel[0])]
        parts = [product(columns, _windows(row, (1, kernel[1]), stride, size), None) for row in rows]
        result = torch.stack(parts, 1)
    gradient = result.view(layer.small, *kernel, layer.large).permute(0, 3, 1, 2)
    return gradient if layer.channels_last else gradient.contiguous()


def possible(layer: Layer) -> tuple[bool, bool, bool]:
    """Whether each product, in the order above, can be computed within LARGEST_BUFFER."""
    if layer.kernel_h < layer.stride_h or layer.kernel_w < layer.stride_w:
        return False, False, False
    size, taps = layer.dtype.itemsize, layer.taps
    correlated = layer.pixels * taps * layer.large * size
    steps = layer.stride_h * layer.stride_w
    spread_ = (layer.height + layer.stride_h) * (layer.width + layer.stride_w) * (taps + steps) * layer.small * size
    return (
        correlated <= LARGEST_BUFFER,
        spread_ // steps**2 <= LARGEST_BUFFER,
        weight_buffer(layer) <= LARGEST_BUFFER * layer.kernel_h,
    )


def weight_buffer(layer: Layer) -> int:
    """Bytes of the windows of all images, from which `weight_gradient` multiplies by rows of the kernel where they are
    more than LARGEST_BUFFER."""
    return layer.rows * layer.taps * layer.large * layer.dtype.itemsize


def _images(layer: Layer, elements: int) -> int:
    """How many images are multiplied at a time, of which each has windows of so many elements."""
    return max(1, min(layer.images, LARGEST_BUFFER // (elements * layer.dtype.itemsize)))


def _phase(place: int, layer: Layer, dim: int) -> tuple[range, int, int, int]:
    """The taps that meet a large map's pixels at one place in the stride, last tap first, as the small map's pixels
    that they meet ascend; how far before the small map these begin, how many there are, how far they go past it."""
    kernel, stride, padding = layer.kernel[dim], layer.stride[dim], layer.padding[dim]
    first = (place + padding) % stride
    taps = range(first + (kernel - 1 - first) // stride * stride, -1, -stride)
    start = (place + padding - taps[0]) // stride
    count = ((layer.height, layer.width)[dim] - place + stride - 1) // stride
    return taps, -start, count, count - 1 + start + len(taps) - layer.size[dim]


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, H, W, C) contiguous; a view of a channels_last tensor."""
    return x.permute(0, 2, 3, 1).contiguous()


def _pad(rows: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    """Zeros around (N, H, W, C): top, bottom, left, right; negative ones are cut off."""
    top, bottom, left, right = sides
    return F.pad(rows, (0, 0, left, right, top, bottom)) if any(sides) else rows


def _windows(padded: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """(N, H, W, C) -> (N h w, kh kw C)"""
    images, _, width, channels = padded.shape
    n, y, x, c = padded.stride()
    if (width > 1 and x != channels) or (channels > 1 and c != 1):  # F.pad guesses layouts
        padded = padded.contiguous()
        n, y = padded.stride()[:2]
    shape = (images, *size, kernel[0], kernel[1] * channels)
    windows = padded.as_strided(shape, (n, stride[0] * y, stride[1] * channels, y, 1), padded.storage_offset())
    return windows.reshape(-1, kernel[0] * kernel[1] * channels).contiguous()  # rows may overlap in a view


def _map(rows: Tensor, layer: Layer) -> Tensor:
    """(N, H, W, C) -> (N, C, H, W), in the layout of the layer"""
    result = rows.permute(0, 3, 1, 2)
    return result if layer.channels_last else result.contiguous()


def mm(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """By torch.mm: for float32 the BLAS that PyTorch is built with."""
    return torch.mm(a, b) if bias is None else torch.addmm(bias, a, b)


def onednn(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """By oneDNN's inner product. It has no derivative."""
    if min(*a.shape, b.shape[1]) < 2:  # whose strides are arbitrary, which oneDNN may refuse
        return mm(a, b, bias)
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), bias, "none", [], "")


@functools.cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Whether `onednn` computes products of transposed matrices here; it is PyTorch's own, but not documented."""
    a, b = (torch.arange(1.0, 13.0, dtype=dtype).view(4, 3).remainder(factor) for factor in (5, 7))
    try:
        with torch.no_grad():
            results = [onednn(a.t(), b), onednn(a.t().contiguous(), b, b[0])]
        return torch.equal(results[0], a.t() @ b) and torch.equal(results[1], a.t() @ b + b[0])
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def empty_map(like: Tensor, images: int, channels: int, height: int, width: int) -> Tensor:
    """As the compiled products make them: channels_last by its strides, also where a size is 1."""
    strides = height * width * channels, 1, width * channels, channels
    return like.new_empty_strided((images, channels, height, width), strides)
