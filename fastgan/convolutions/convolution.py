"""Convolutions in two dimensions as in torch.nn.functional, with forward, input gradient and weight gradient each by
PyTorch's convolution, by matrix products, by Winograd's method or by sums over a wide map's channels, whichever is
fastest for the shape."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import backend, tuning, watched
from fastgan.convolutions import narrow, products, rules, winograd
from fastgan.convolutions.products import Layer
from fastgan.convolutions.rules import MM, NARROW, ONEDNN, PRODUCTS, TORCH, WINOGRAD

DTYPES = (torch.float32, torch.bfloat16)
Size = tuple[int, int]


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Size = 1,
    padding: int | Size | str = 0,
    dilation: int | Size = 1,
    groups: int = 1,
) -> Tensor:
    """F.conv2d, of the same result, errors and derivatives of any order, from the fastest library for the shape.

    Args:
        x: (N, in_channels, H, W), any dtype and device; float32 and bfloat16 on CPU can gain. Autocast as PyTorch's.
        weight: (out_channels, in_channels / groups, kh, kw).
        bias: (out_channels,) or None.
    """
    if groups == 1 and takes(x, weight, bias) and _is_large(x, weight):
        layer = _layer(x, weight, bias, _pair(stride), _pair(padding), (0, 0), dilation, transposed=False)
        if layer is not None and (paths := _paths(layer, x, weight, transposed=False)):
            return _convolve(x, weight, bias, _Call(layer, (0, 0), False, paths))
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Size = 1,
    padding: int | Size = 0,
    output_padding: int | Size = 0,
    groups: int = 1,
    dilation: int | Size = 1,
) -> Tensor:
    """F.conv_transpose2d, of the same result, errors and derivatives, from the fastest library for the shape.

    Args:
        x: (N, in_channels, H, W), any dtype and device; float32 and bfloat16 on CPU can gain. Autocast as PyTorch's.
        weight: (in_channels, out_channels / groups, kh, kw).
        bias: (out_channels,) or None.
    """
    if groups == 1 and takes(x, weight, bias) and _is_large(x, weight):
        more = _pair(output_padding)
        layer = _layer(x, weight, bias, _pair(stride), _pair(padding), more, dilation, transposed=True)
        if layer is not None and (paths := _paths(layer, x, weight, transposed=True)):
            return _convolve(x, weight, bias, _Call(layer, more, True, paths))
    return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation)


def _is_large(x: Tensor, weight: Tensor) -> bool:
    """What is not is PyTorch's, without another question."""
    if weight.numel() >= rules.LEAST_WEIGHT:
        return True
    if weight.dim() != 4 or x.dim() != 4 or min(weight.shape[:2]) > narrow.MOST:
        return False
    images, _, height, width = x.shape
    return weight.numel() * images * height * width >= rules.LEAST_WORK[NARROW]


def takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether these are plain tensors on the CPU, and nothing looks at single PyTorch operations or wants them."""
    return (
        type(x) is Tensor
        and type(weight) in (Tensor, torch.nn.Parameter)
        and (bias is None or (type(bias) in (Tensor, torch.nn.Parameter) and bias.device == x.device))
        and x.device.type == weight.device.type == "cpu"
        and not watched.operations()
        and backend.inside() != "torch"
        and (bias is None or bias.dtype is weight.dtype)
    )


def _pair(value: Any) -> Any:
    return (value, value) if type(value) is int else value


def _layer(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, more: Any, dilation: Any, transposed: bool
) -> Layer | None:
    """The shape of a convolution, or None of one that products cannot compute, or that PyTorch refuses."""
    dtype = x.dtype
    if torch.is_autocast_enabled("cpu") and dtype is not torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
    elif weight.dtype is not dtype:
        return None
    if dtype not in DTYPES or x.dim() != 4 or weight.dim() != 4 or dilation not in (1, (1, 1)) or type(padding) is str:
        return None
    images, channels, height, width = x.shape
    small, large, kernel_h, kernel_w = weight.shape
    if bias is not None and bias.shape != ((large,) if transposed else (small,)):
        return None
    if channels != (small if transposed else large) or len(stride) != 2 or len(padding) != 2 or len(more) != 2:
        return None
    if min(stride) < 1 or min(padding) < 0 or kernel_h < stride[0] or kernel_w < stride[1] or not images:
        return None
    if transposed:
        h, w = height, width
        if not (0 <= more[0] < stride[0] and 0 <= more[1] < stride[1]):
            return None
        height = (h - 1) * stride[0] - 2 * padding[0] + kernel_h + more[0]
        width = (w - 1) * stride[1] - 2 * padding[1] + kernel_w + more[1]
    else:
        h = (height + 2 * padding[0] - kernel_h) // stride[0] + 1
        w = (width + 2 * padding[1] - kernel_w) // stride[1] + 1
    # Where both maps have one pixel or one channel, these are no convolutions to speak of.
    if min(h, w, height, width) < 1 or height * width < 2 or max(small, large) < 2:
        return None
    last = x.is_contiguous(memory_format=torch.channels_last)
    if not last and not x.is_contiguous():
        return None
    weight_last = not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)
    last = last and not (h * w == 1 and x.is_contiguous())  # of a map of one pixel the weight tells
    return Layer(
        *(images, small, large, h, w, height, width, kernel_h, kernel_w),
        *(*stride, *padding, dtype, last or weight_last, weight_last),
    )


_QUESTIONS = tuple(f"convolution.{name}" for name in PRODUCTS)


def _paths(layer: Layer, x: Tensor, weight: Tensor, transposed: bool) -> tuple[str, str, str] | None:
    """The way of each of PRODUCTS that will be computed; None where all are PyTorch's."""
    default = rules.fastest(layer)
    graded = torch.is_grad_enabled()
    needed = [True, graded and x.requires_grad, graded and weight.requires_grad]
    if transposed:
        needed[:2] = reversed(needed[:2])
    ways = [tuning.choice(q, layer, way) if need else TORCH for q, way, need in zip(_QUESTIONS, default, needed)]
    if ways == [TORCH] * 3 or (layer.dtype is torch.float32 and rounded_products()):
        return None
    return tuple(ways)  # type: ignore[return-value]


def rounded_products() -> bool:
    """Whether the user lets PyTorch round the operands of float32 matrix products, which convolutions must not."""
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        return torch._C._get_fp32_precision_getter("mkldnn", "matmul") not in ("none", "ieee")
    return torch.get_float32_matmul_precision() != "highest"


class _Call(NamedTuple):
    layer: Layer
    more: Size  # output_padding
    transposed: bool
    paths: tuple[str, str, str]  # the way of each of the products of PRODUCTS


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, call: _Call) -> Tensor:
    dtype = call.layer.dtype
    x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)  # as autocast does
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return _Convolution.apply(x, weight, bias, call)
    return _forward(x, weight, bias, call)


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, call: _Call) -> Tensor:
    layer, more, transposed, paths = call
    computed = _function(int(transposed), paths, layer)
    if computed is None:
        return torch.convolution(x, weight, bias, layer.stride, layer.padding, (1, 1), transposed, more, 1)
    return computed(x, weight, bias)


def _function(op: int, paths: tuple[str, str, str], layer: Layer) -> Callable[..., Tensor] | None:
    """One of PRODUCTS in the way that was chosen for it, of its operands alone, or None for PyTorch's convolution."""
    way = paths[op]
    if way == WINOGRAD and winograd.possible(layer):
        method = getattr(winograd, PRODUCTS[op])
        return lambda *operands: method(*operands, layer)
    if way == NARROW and narrow.possible(layer)[op]:
        method = getattr(narrow, PRODUCTS[op])
        return lambda *operands: method(*operands, layer)
    if way not in (MM, ONEDNN):
        return None
    product = products.onednn if way == ONEDNN and products.onednn_works(layer.dtype) else products.mm
    by_products = getattr(products, PRODUCTS[op])
    return lambda *operands: by_products(*operands, layer, product)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, call: _Call) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias = None if bias is None else list(bias.shape)
        ctx.call = call
        y = _forward(x, weight, bias, call)
        if y._is_view():  # which an activation after it could not overwrite
            owned = torch.empty(0, dtype=y.dtype, device=y.device)
            y = owned.set_(y.untyped_storage(), y.storage_offset(), y.shape, y.stride())
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        layer, more, transposed, paths = ctx.call
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_x = grad_weight = grad_bias = None
        if not torch.is_grad_enabled():  # else create_graph=True: these gradients will themselves be differentiated
            small, large = (x, grad) if transposed else (grad, x)
            if needs_x and (computed := _function(int(not transposed), paths, layer)):
                grad_x, needs_x = computed(grad, weight, None), False
            if needs_weight and (computed := _function(2, paths, layer)):
                grad_weight, needs_weight = computed(small, large), False
            if needs_bias and not needs_weight:  # oneDNN would compute the weight's gradient once more for it
                grad_bias, needs_bias = grad.sum((0, 2, 3)), False
        if needs_x or needs_weight or needs_bias:
            theirs = torch.ops.aten.convolution_backward(
                *(grad, x, weight, ctx.bias, layer.stride, layer.padding, (1, 1), transposed, more, 1),
                (needs_x, needs_weight, needs_bias),
            )
            grad_x, grad_weight, grad_bias = (
                a if b is None else b for a, b in zip(theirs, (grad_x, grad_weight, grad_bias))
            )
        return grad_x, grad_weight, grad_bias, None


def _candidates(op: str, layer: Layer) -> dict[str, Callable[[], Tensor]]:
    """Every way of computing one product of a layer on random data, and the same in float64."""
    format_ = torch.channels_last if layer.channels_last else torch.contiguous_format
    maps = (layer.small, *layer.size), (layer.large, layer.height, layer.width)
    small, large = (torch.randn(layer.images, *shape).to(layer.dtype, memory_format=format_) for shape in maps)
    weight = torch.randn(layer.small, layer.large, *layer.kernel).to(layer.dtype)
    weight = weight.to(memory_format=torch.channels_last if layer.weight_last else torch.contiguous_format)

    def theirs(small: Tensor, large: Tensor, weight: Tensor) -> Tensor:
        settings = layer.stride, layer.padding, (1, 1), False, (0, 0), 1
        if op == "correlate":
            return torch.convolution(large, weight, None, *settings)
        mask = op == "spread", op == "weight_gradient", False
        gradients = torch.ops.aten.convolution_backward(small, large, weight, None, *settings, mask)
        return gradients[mask.index(True)]

    operands = {"correlate": (large, weight, None), "spread": (small, weight, None), "weight_gradient": (small, large)}
    ways: dict[str, Callable[[], Tensor]] = {TORCH: lambda: theirs(small, large, weight)}
    number = PRODUCTS.index(op)
    for way in (MM, ONEDNN, WINOGRAD, NARROW):
        if rules.possible(way, layer)[number] and (way != ONEDNN or products.onednn_works(layer.dtype)):
            function = _function(number, (way, way, way), layer)
            assert function is not None
            ways[way] = functools.partial(function, *operands[op])
    ways[tuning.EXACT] = lambda: theirs(small.double(), large.double(), weight.double())
    return ways


def _describe(layer: Layer) -> str:
    """As a convolution from the large map to the small one."""
    return (
        f"{layer.large}x{layer.height}x{layer.width} to {layer.small}x{layer.h}x{layer.w}, "
        f"kernel {layer.kernel_h}x{layer.kernel_w}, batch {layer.images}, {str(layer.dtype)[6:]}"
        + (", channels_last" if layer.channels_last else "")
    )


TUNABLES = {
    question: tuning.Tunable(
        functools.partial(_candidates, op), _describe, {F.conv2d: conv2d, F.conv_transpose2d: conv_transpose2d}
    )
    for op, question in zip(PRODUCTS, _QUESTIONS)
}
