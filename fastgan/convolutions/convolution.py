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
from fastgan.convolutions import narrow, products, winograd
from fastgan.convolutions.products import Layer

# The ways to compute a product: PyTorch's, two of matrices, with fewer multiplications, and of an image and a wide map.
TORCH, MM, ONEDNN, WINOGRAD, NARROW = tuning.TORCH, "mm", "onednn", "winograd", "narrow"
DTYPES = (torch.float32, torch.bfloat16)
LEAST_WEIGHT = 2**15  # elements; below, no product gained but those of an image
Pair = tuple[int, int]


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """F.conv2d, of the same result, errors and derivatives of any order, from the fastest library for the shape.

    Args:
        x: (N, in_channels, H, W), any dtype and device; float32 and bfloat16 on CPU can gain. Autocast as PyTorch's.
        weight: (out_channels, in_channels / groups, kh, kw).
        bias: (out_channels,) or None.
    """
    if groups == 1 and takes(x, weight, bias) and _is_large(weight):
        layer = _layer(x, weight, bias, _pair(stride), _pair(padding), (0, 0), dilation, transposed=False)
        if layer is not None and (paths := _paths(layer, x, weight, transposed=False)):
            return _convolve(x, weight, bias, _Call(layer, (0, 0), False, paths))
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Tensor:
    """F.conv_transpose2d, of the same result, errors and derivatives, from the fastest library for the shape.

    Args:
        x: (N, in_channels, H, W), any dtype and device; float32 and bfloat16 on CPU can gain. Autocast as PyTorch's.
        weight: (in_channels, out_channels / groups, kh, kw).
        bias: (out_channels,) or None.
    """
    if groups == 1 and takes(x, weight, bias) and _is_large(weight):
        more = _pair(output_padding)
        layer = _layer(x, weight, bias, _pair(stride), _pair(padding), more, dilation, transposed=True)
        if layer is not None and (paths := _paths(layer, x, weight, transposed=True)):
            return _convolve(x, weight, bias, _Call(layer, more, True, paths))
    return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation)


def _is_large(weight: Tensor) -> bool:
    return weight.numel() >= LEAST_WEIGHT or (weight.dim() == 4 and min(weight.shape[:2]) <= narrow.MOST)


def takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether these are plain tensors on the CPU, and nothing looks at single PyTorch operations."""
    return (
        type(x) is Tensor
        and type(weight) in (Tensor, torch.nn.Parameter)
        and (bias is None or (type(bias) in (Tensor, torch.nn.Parameter) and bias.device == x.device))
        and x.device.type == weight.device.type == "cpu"
        and not watched.operations()
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
    # Of maps of one pixel the layout is ambiguous, and where both have one channel: no convolutions to speak of either.
    if min(h, w, height, width) < 1 or h * w < 2 or height * width < 2 or max(small, large) < 2:
        return None
    last = x.is_contiguous(memory_format=torch.channels_last)
    if not last and not x.is_contiguous():
        return None
    weight_last = not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)
    return Layer(
        *(images, small, large, h, w, height, width, kernel_h, kernel_w),
        *(*stride, *padding, dtype, last or weight_last, weight_last),
    )


_OPS = ("correlate", "spread", "weight_gradient")
_QUESTIONS = tuple(f"convolution.{name}" for name in _OPS)


def _paths(layer: Layer, x: Tensor, weight: Tensor, transposed: bool) -> tuple[str, str, str] | None:
    """The way of each product, in the order of _OPS, of those that will be computed; None where all are PyTorch's."""
    default = _default(layer)
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


@functools.lru_cache(4096)
def _default(layer: Layer) -> tuple[str, str, str]:
    """The ways to take where nothing was measured: those that gained a tenth or more on processors with AVX-512, one
    with AMX and one without."""
    ways = _default_products(layer)
    if layer.dtype is torch.float32 and _is_measured(layer.dtype):
        ways = tuple(WINOGRAD if gains else way for gains, way in zip(winograd.pays(layer), ways))  # type: ignore[assignment]
    if _is_measured(layer.dtype) and (layer.dtype is torch.float32 or not backend.cpu_multiplies_tiles()):
        ways = tuple(NARROW if gains else way for gains, way in zip(narrow.pays(layer), ways))  # type: ignore[assignment]
    return ways


def _default_products(layer: Layer) -> tuple[str, str, str]:
    """The same without Winograd's method: at 4x4 maps of 256 and 512 channels, batch 64, channels_last, matrix products
    are 1.1 to 1.5 times as fast in float32, 1.6 to 6 in bfloat16."""
    channels, pixels, rows = layer.small * layer.large, layer.h * layer.w, layer.images * layer.h * layer.w
    if layer.kernel_h * layer.kernel_w < 9 or rows > 4096 or not _is_measured(layer.dtype):
        return TORCH, TORCH, TORCH
    wide = channels >= 2**17 and (pixels <= 16 or rows <= 64)
    if layer.dtype is torch.float32:
        last = wide and layer.channels_last and layer.weight_last
        ways = (
            ONEDNN if last and rows <= 1024 else TORCH,
            ONEDNN if last and pixels <= 16 and 256 <= rows <= 2048 and channels <= 2**18 else TORCH,
            MM if wide else TORCH,
        )
    else:
        # Without AMX, the weight gradient of 3x3 kernels on 8x8 maps gains 1.1x in 1024 rows and loses 0.84x in 4096;
        # of contiguous maps oneDNN correlates well and spreads badly (products are 0.7 to 0.9 and 1.4 to 2 times as
        # fast); of channels_last ones it spreads well with strides, but for 512 channels on both sides, and where there
        # are 256 rows products are 1.2 to 1.7 times as fast on larger maps, too.
        tiles, last, strided = backend.cpu_multiplies_tiles(), layer.channels_last, layer.stride != (1, 1)
        few = layer.kernel_h * layer.kernel_w > 9 or rows <= 1024 or tiles
        small = (pixels <= 16 and channels >= 2**14) or (pixels <= 64 and channels >= 2**15 and few)
        short = channels >= 2**17 and rows <= 256 and last and not tiles
        spread = pixels <= 16 and 256 <= rows <= 2048 if tiles or last else rows <= 64
        gradient = (wide or small or short) and products.weight_buffer(layer) <= products.LARGEST_BUFFER
        ways = (
            ONEDNN if (wide and rows <= 2048 and (tiles or last)) or (short and strided) else TORCH,
            ONEDNN if wide and spread and (tiles or not (last and strided) or channels >= 2**18) else TORCH,
            ONEDNN if gradient else TORCH,
        )
    return tuple(way if can else TORCH for way, can in zip(ways, products.possible(layer)))  # type: ignore[return-value]


@functools.cache
def _is_measured(dtype: torch.dtype) -> bool:
    """Whether this processor is of the kind that the rule was measured on."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    return dtype is torch.float32 or backend.autocast_dtype("cpu") is dtype


class _Call(NamedTuple):
    layer: Layer
    more: Pair  # output_padding
    transposed: bool
    paths: tuple[str, str, str]  # the way of each of the products of _OPS


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
    """One of _OPS in the way that was chosen for it, of its operands alone, or None for PyTorch's convolution."""
    way = paths[op]
    if way == WINOGRAD and winograd.possible(layer):
        method = getattr(winograd, _OPS[op])
        return lambda *operands: method(*operands, layer)
    if way == NARROW and narrow.possible(layer)[op]:
        method = getattr(narrow, _OPS[op])
        return lambda *operands: method(*operands, layer)
    if way not in (MM, ONEDNN):
        return None
    product = products.onednn if way == ONEDNN and products.onednn_works(layer.dtype) else products.mm
    by_products = getattr(products, _OPS[op])
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
    can = {
        MM: products.possible(layer)[_OPS.index(op)],
        ONEDNN: products.possible(layer)[_OPS.index(op)] and products.onednn_works(layer.dtype),
        WINOGRAD: winograd.possible(layer),
        NARROW: narrow.possible(layer)[_OPS.index(op)],
    }
    for way in [way for way in can if can[way]]:
        function = _function(_OPS.index(op), (way, way, way), layer)
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
    for op, question in zip(_OPS, _QUESTIONS)
}
