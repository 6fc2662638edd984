"""A convolution before nearest x2 upsampling's or 2x2 pooling's grid, as one strided convolution of merged weights.

Along one axis, a kernel w of odd size k on a map whose pixels are doubled, and the mean of two neighbouring results of
w, both see pixels through w[u] + w[u - 1], u = 0 ... k: a kernel of k + 1 taps at stride 2, with the zero padding
k // 2 of before. For upsampling it runs transposed, and so in the reverse order. On both axes: (k + 1)^2 instead of
4 k^2 multiply-adds a pixel of the smaller map, 16 instead of 36 for k = 3. Borders agree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import backend as _backend
from fastgan import tuning, watched
from fastgan.convolutions import convolution, rules
from fastgan.convolutions.products import Layer
from fastgan.reference import conv_pool as reference_pool
from fastgan.reference import resize_conv as reference_resize

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def resize(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """conv(upsample(x)). Differentiable as PyTorch's own ops are, which it consists of."""
    height, width = weight.shape[2:]
    if height == width == 1:  # it moves below the upsampling
        return F.interpolate(F.conv2d(x, weight, bias, 1, 0, 1, groups), scale_factor=2.0, mode="nearest")
    turned = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1) if groups > 1 else weight.transpose(0, 1)
    last = _is_channels_last(weight)
    turned = turned.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    merged, apart = merge(turned, last, transposed=True), _wants_gradient_apart(bias)
    given = bias.detach() if bias is not None and apart else bias
    y = convolution.conv_transpose2d(x, merged, given, 2, (height // 2, width // 2), 0, groups)
    return _Biased.apply(y, bias) if apart else y


def pool(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """pool(conv(x)). Differentiable as PyTorch's own ops are, which it consists of."""
    height, width = weight.shape[2:]
    if height == width == 1:  # it moves above the pooling
        return F.conv2d(F.avg_pool2d(x, 2), weight, bias, 1, 0, 1, groups)
    # Products in place of the convolution, on small maps, leave the bias to others too.
    apart = _wants_gradient_apart(bias) and x[:, 0].numel() < 2**15
    given = bias.detach() if bias is not None and apart else bias
    merged = merge(weight, _is_channels_last(weight))
    y = convolution.conv2d(x, merged, given, 2, (height // 2, width // 2), 1, groups)
    return _Biased.apply(y, bias) if apart else y


class _Biased(torch.autograd.Function):
    """The gradient of a bias that was added without one. PyTorch sums it, after a transposed convolution in
    channels_last, ten times slower than a product with ones does."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor) -> Tensor:
        ctx.mark_dirty(y)
        ctx.dtype = bias.dtype
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        rows = grad.permute(0, 2, 3, 1)
        if not rows.is_contiguous() or grad.is_contiguous() or not _sums_exactly(grad.dtype):
            return grad, grad.sum((0, 2, 3)).to(ctx.dtype)
        rows = rows.reshape(-1, grad.shape[1])
        return grad, (rows.new_ones(1, rows.shape[0]) @ rows)[0].to(ctx.dtype)


def _wants_gradient_apart(bias: Tensor | None) -> bool:
    return bias is not None and bias.requires_grad and torch.is_grad_enabled() and not watched.operations()


def _sums_exactly(dtype: torch.dtype) -> bool:
    """Whether products with ones are sums: not where the user lets PyTorch round the operands of float32 products."""
    return dtype is not torch.float32 or not convolution.rounded_products()


def merge(weight: Tensor, last: bool = False, transposed: bool = False) -> Tensor:
    """(O, I, k, l) -> (O, I, k + 1, l + 1): sums of neighbours in reverse order for a transposed convolution, else a
    quarter of the sums. Rounded once, also under autocast. The result is channels_last where `last`."""
    if torch.is_autocast_enabled(weight.device.type):
        with torch.autocast(weight.device.type, enabled=False):
            return _merge(weight, last, transposed)
    return _merge(weight, last, transposed)


def _merge(weight: Tensor, last: bool, transposed: bool) -> Tensor:
    outputs, inputs, height, width = weight.shape
    # A matrix from the host, as below, is no part of a recorded CUDA graph.
    if torch.compiler.is_compiling() or not weight.is_cpu or not _sums_exactly(weight.dtype):
        merged = F.avg_pool2d(weight, 2, 1, 1, divisor_override=1 if transposed else 4)
        merged = merged.flip(2, 3) if transposed else merged
        return merged.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    # Made at each call: what is kept over calls might be made inside a mode (inference, fake tensors, a compilation).
    sums = torch.tensor(_sums(height, width, transposed), dtype=weight.dtype, device=weight.device)
    if not last:
        return (weight.reshape(-1, height * width) @ sums.t()).view(outputs, inputs, height + 1, width + 1)
    taps = weight.permute(0, 2, 3, 1).reshape(outputs, height * width, inputs)
    merged = torch.bmm(sums.expand(outputs, -1, -1), taps)
    return merged.view(outputs, height + 1, width + 1, inputs).permute(0, 3, 1, 2)


@functools.cache
def _sums(height: int, width: int, transposed: bool) -> tuple[tuple[float, ...], ...]:
    """The matrix that merges: (height + 1) (width + 1) rows of height * width zeros and ones, or quarters."""

    def axis(size: int) -> list[list[float]]:
        rows = [[float(row - tap in (0, 1)) for tap in range(size)] for row in range(size + 1)]
        return rows[::-1] if transposed else rows

    share = 1.0 if transposed else 0.25
    return tuple(tuple(share * a * b for a in up for b in across) for up in axis(height) for across in axis(width))


def _is_channels_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def path(device: str, backend: str = "auto") -> str:
    """ "PyTorch" where the merged convolution runs, which was measured on cpu, else "torch": the pair of calls."""
    return "torch" if device != "cpu" or _backend.wanted(backend) == "torch" else "PyTorch"


LEAST = {dtype: least for dtype in DTYPES if (least := rules.merges(dtype))}


def runs(op: str, x: Tensor, weight: Tensor, groups: int, backend: str) -> bool:
    """Whether one merged convolution computes `op`, not the pair of PyTorch's calls. RuntimeError for a backend that
    the op does not have."""
    _backend.choose(op, x.device.type, backend)
    if _backend.recorded() or path(x.device.type, backend) == "torch" or not x.numel():
        return False
    kernel = weight.shape[2:]
    return kernel == (1, 1) or pays(op, x, weight.shape[0], kernel, groups)


class Pair(NamedTuple):
    """What decides whether the merged convolution is the faster one."""

    shape: tuple[int, ...]  # of x
    outputs: int
    kernel: tuple[int, ...]
    groups: int
    dtype: torch.dtype
    channels_last: bool
    backward: bool  # whether one may follow


def pays(op: str, x: Tensor, outputs: int, kernel: tuple[int, ...], groups: int) -> bool:
    """Whether the merged convolution is the faster one, of x, to `outputs` channels, with a kernel (k, l)."""
    dtype = x.dtype
    if dtype is not torch.float64 and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    pair = Pair(tuple(x.shape), outputs, tuple(kernel), groups, dtype, last, torch.is_grad_enabled())
    default = MERGED if _pays(op, pair) else rules.TORCH
    if torch.compiler.is_compiling():
        return default == MERGED
    return tuning.choice(op, pair, default) == MERGED


def _pays(op: str, pair: Pair) -> bool:
    """Where nothing was measured on this machine."""
    if pair.dtype not in LEAST:
        return False
    images, inputs, height, width = pair.shape
    if op == "conv_pool":
        height, width = height // 2, width // 2
    pixels, least = images * height * width, LEAST[pair.dtype]
    if pixels * inputs * pair.outputs // pair.groups < least.work:
        return False
    if not pair.backward:
        return pixels >= least.forward
    if pixels >= least.training or pair.dtype is not torch.bfloat16 or pair.groups > 1:
        return pixels >= least.training
    small, large = (pair.outputs, inputs) if op == "conv_pool" else (inputs, pair.outputs)
    size = pair.shape[2:] if op == "conv_pool" else (2 * height, 2 * width)
    taps, padding = [k + 1 for k in pair.kernel], [k // 2 for k in pair.kernel]
    layer = Layer(
        *(images, small, large, height, width, size[0], size[1], taps[0], taps[1]),
        *(2, 2, padding[0], padding[1], pair.dtype, pair.channels_last, pair.channels_last),
    )
    by_products = sum(way != rules.TORCH for way in rules.fastest(layer))
    return by_products > 0 and pixels >= rules.MERGES_BY_PRODUCTS[by_products]


def _candidates(op: str, pair: Pair) -> dict[str, Callable[[], Tensor]]:
    """Both ways, on random data."""
    format_ = torch.channels_last if pair.channels_last else torch.contiguous_format
    x = torch.randn(pair.shape).to(pair.dtype, memory_format=format_)
    weight = torch.randn(pair.outputs, pair.shape[1] // pair.groups, *pair.kernel).to(pair.dtype, memory_format=format_)
    leaves = [t.requires_grad_(pair.backward) for t in (x, weight)]

    def call(function: Callable[..., Tensor]) -> Tensor:
        y = function(x, weight, None, pair.groups)
        if not pair.backward:
            return y
        return torch.cat([t.flatten() for t in torch.autograd.grad(y, leaves, torch.ones_like(y))])

    ways = {rules.TORCH: _REFERENCES[op], MERGED: resize if op == "resize_conv" else pool}
    return {name: functools.partial(call, function) for name, function in ways.items()}


def _describe(pair: Pair) -> str:
    kernel = "x".join(map(str, pair.kernel))
    return (
        f"{pair.shape} to {pair.outputs} channels, kernel {kernel}, {str(pair.dtype)[6:]}"
        + (", channels_last" if pair.channels_last else "")
        + ("" if pair.backward else ", forward alone")
    )


MERGED = "merged"
_REFERENCES = {"resize_conv": reference_resize.resize_conv, "conv_pool": reference_pool.conv_pool}
TUNABLES = {op: tuning.Tunable(functools.partial(_candidates, op), _describe) for op in _REFERENCES}


def check(op: str, x: Any, weight: Any, bias: Any, groups: Any) -> None:
    """TypeError or ValueError, in words, for what `op` does not accept."""
    for name, value in (("x", x), ("weight", weight), ("bias", bias)):
        if name == "bias" and value is None:
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, not {type(value).__name__}")
        if value.dtype not in DTYPES:
            names = ", ".join(str(dtype)[6:] for dtype in DTYPES)
            raise TypeError(f"{op}: {name} is {str(value.dtype)[6:]}; accepted: {names}")
        if value.device != x.device:
            raise ValueError(f"{op}: x is on {x.device}, {name} on {value.device}; move them to one device")
        same = value.dtype is x.dtype or torch.is_autocast_enabled(x.device.type)
        if not same:
            raise TypeError(f"{op}: x is {str(x.dtype)[6:]}, {name} {str(value.dtype)[6:]}; make them one dtype")
    if type(groups) is not int or groups < 1:
        raise ValueError(f"{op}: groups must be a whole number >= 1, not {groups!r}")
    if x.dim() != 4:
        raise ValueError(f"{op}: x must be (N, C, H, W), not shape {tuple(x.shape)}")
    if weight.dim() != 4 or not all(size % 2 for size in weight.shape[2:]):
        raise ValueError(f"{op}: weight must be (O, C / groups, k, l) with odd k and l, not {tuple(weight.shape)}")
    if weight.shape[0] % groups or weight.shape[1] * groups != x.shape[1]:
        raise ValueError(
            f"{op}: a weight {tuple(weight.shape)} with groups={groups} takes {weight.shape[1] * groups} channels and "
            f"gives a multiple of {groups}; x has {x.shape[1]} channels"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{op}: bias must be ({weight.shape[0]},), not shape {tuple(bias.shape)}")
