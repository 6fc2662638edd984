"""Upsampling before a convolution, and average pooling after one: what is found in a graph, and what is called."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fastgan import watched
from fastgan.convolutions import merged
from fastgan.fusion import calls
from fastgan.fusion.sites import Held, Miss, Site, bound, called, input_of, name_of, why_not, why_not_convolution

_NEAREST = ("nearest", "nearest-exact")  # for x2 the same
_MOVABLE = (*_NEAREST, "bilinear")  # their weights sum to one, so that a 1x1 convolution commutes with them
_INTERPOLATE = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


def resize_conv(backend: str, up: Any, conv: Any, x: Any) -> Any:
    """conv(up(x)), in one op where that computes the same. A 1x1 convolution moves below the upsampling."""
    if not _is_plain(backend, conv, x) or (type(up) in calls.UPSAMPLINGS and watched.changed(up)):
        return conv(up(x))
    settings = _upsampling(up)
    if settings is None or _why_not_upsampled(settings, conv) or not _grows(settings, x):
        return conv(up(x))
    if conv.kernel_size == (1, 1):
        return up(conv(x))
    if not merged.pays("resize_conv", x, conv.out_channels, conv.kernel_size, conv.groups):
        return conv(up(x))
    weight = _weight(conv, x)
    if not _fits(conv, weight, x):
        return conv._conv_forward(up(x), weight, conv.bias)
    return merged.resize(x, weight, conv.bias, conv.groups)


def conv_pool(backend: str, conv: Any, pool: Any, x: Any) -> Any:
    """pool(conv(x)), in one op where that computes the same. A 1x1 convolution moves above the pooling."""
    if not _is_plain(backend, conv, x) or (type(pool) in calls.POOLINGS and watched.changed(pool)):
        return pool(conv(x))
    settings = _pooling(pool)
    if settings is None or _why_not_pooled(settings, conv):
        return pool(conv(x))
    if any(size < kernel for size, kernel in zip(x.shape[2:], _pair(settings["kernel_size"]))):  # PyTorch's error
        return pool(conv(x))
    if conv.kernel_size == (1, 1):
        return conv(pool(x))
    if not merged.pays("conv_pool", x, conv.out_channels, conv.kernel_size, conv.groups):
        return pool(conv(x))
    weight = _weight(conv, x)
    if not _fits(conv, weight, x):
        return pool(conv._conv_forward(x, weight, conv.bias))
    return merged.pool(x, weight, conv.bias, conv.groups)


def _is_plain(backend: str, conv: Any, x: Any) -> bool:
    return (
        type(x) is Tensor
        and calls.convolution(conv) is nn.Conv2d
        and not watched.watched(conv)
        and x.dim() == 4
        and x.dtype in merged.DTYPES
        and x.numel() > 0
        and merged.path(x.device.type, backend) != "torch"
        and x.shape[1] == conv.in_channels
    )


def _weight(conv: Any, x: Tensor) -> Tensor:
    """Computed, where something computes it, exactly once."""
    for hook in conv._forward_pre_hooks.values():  # which set conv.weight
        hook(conv, (x,))
    return conv.weight


def _fits(conv: Any, weight: Tensor, x: Tensor) -> bool:
    """Whether PyTorch has no error to give, and the weight that is there is the one that the convolution tells of."""
    tensors = (x, weight) if conv.bias is None else (x, weight, conv.bias)
    dtypes = {t.dtype for t in tensors}
    one_dtype = len(dtypes) == 1 or (torch.is_autocast_enabled("cpu") and torch.float64 not in dtypes)
    shape = (conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size)
    return one_dtype and weight.shape == shape and (conv.bias is None or conv.bias.shape == shape[:1])


def _upsampling(up: Any) -> dict[str, Any] | None:
    """The arguments of F.interpolate that are not None; None for something else, put in the place of an upsampling."""
    if isinstance(up, functools.partial):
        return {name: value for name, value in up.keywords.items() if value is not None}
    if up is F.interpolate or type(up) not in calls.UPSAMPLINGS:
        return None
    return {name: value for name in _INTERPOLATE[:-1] if (value := getattr(up, name)) is not None}


def _pooling(pool: Any) -> dict[str, Any] | None:
    """The arguments of F.avg_pool2d; None for something else, put in the place of a pooling."""
    if isinstance(pool, functools.partial):
        given = pool.keywords
    elif type(pool) in calls.POOLINGS:
        given = {name: getattr(pool, name) for name in _POOL}
    else:
        return None
    return dict(given)


def _pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _grows(settings: dict[str, Any], x: Tensor) -> bool:
    """Whether the upsampled map is larger than x."""
    if (size := settings.get("size")) is not None:
        height, width = _pair(size)
        return height * width > x.shape[2] * x.shape[3]
    height, width = _pair(settings["scale_factor"])
    return height * width > 1


def _why_not_convolved(conv: Any) -> str:
    """Why a convolution does not have the shape of those that can be merged or moved, or ""."""
    kernel = conv.kernel_size
    if conv.padding_mode != "zeros":
        return f"the convolution has padding_mode={conv.padding_mode!r}"
    if not all(size % 2 for size in kernel):
        return f"the kernel of the convolution is even: {kernel}"
    for name in ("stride", "dilation"):
        if getattr(conv, name) != (1, 1):
            return f"the convolution has {name} {getattr(conv, name)}"
    same = tuple(size // 2 for size in kernel)
    if conv.padding not in (same, "same") and not (conv.padding == "valid" and kernel == (1, 1)):
        return f"the convolution has padding {conv.padding!r}, where {same} keeps the size"
    return ""


def _why_not_upsampled(settings: dict[str, Any], conv: Any) -> str:
    """Why a convolution after such an upsampling is neither merged with it nor moved below it, or ""."""
    if reason := _why_not_convolved(conv):
        return reason
    mode, scale = settings.get("mode", "nearest"), settings.get("scale_factor")
    known = _MOVABLE if conv.kernel_size == (1, 1) else _NEAREST
    if mode not in known:
        return f"the upsampling is {mode}; before such a convolution {' and '.join(known)} are fused"
    numbers = _pair(settings.get("size", scale))
    if len(numbers) != 2 or not all(type(number) in (int, float) for number in numbers):
        return "the size of the upsampling is computed in the forward, or not of a map"
    if conv.kernel_size == (1, 1):
        return ""
    if scale is None or "size" in settings:
        return "the upsampling has a size; with scale_factor=2 it is fused"
    if "align_corners" in settings or settings.get("antialias"):  # an error, which is PyTorch's to give
        return f"{mode} upsampling takes neither align_corners nor antialias"
    return "" if _pair(scale) == (2, 2) else f"the upsampling has scale_factor={scale}; 2 is fused"


def _why_not_pooled(settings: dict[str, Any], conv: Any) -> str:
    """Why a convolution before such a pooling is neither merged with it nor moved above it, or ""."""
    if reason := _why_not_convolved(conv):
        return reason
    kernel = _pair(settings.get("kernel_size"))
    stride = _pair(settings.get("stride") or kernel)
    if len(kernel) != 2 or not all(type(n) is int and n > 0 for n in (*kernel, *stride)):
        return "the size of the pooling is computed in the forward, or not of a map"
    if _pair(settings.get("padding", 0)) != (0, 0):
        return f"the pooling has padding {settings['padding']}"
    if settings.get("ceil_mode"):
        return "the pooling has ceil_mode=True"
    if settings.get("divisor_override") is not None:
        return f"the pooling has divisor_override={settings['divisor_override']}"
    if conv.kernel_size == (1, 1):
        return "" if stride[0] * stride[1] > 1 else "the pooling has stride 1"
    if kernel != (2, 2) or stride != (2, 2):
        return f"the pooling has kernel_size {kernel} and stride {stride}; 2 and 2 are fused"
    return ""


def find_resize_conv(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """Upsampling -> convolution."""
    up = _operand(node, module, calls.UPSAMPLINGS, F.interpolate, _INTERPOLATE)
    after = [user for user in node.users if isinstance(called(user, module), nn.Conv2d) and input_of(user) is node]
    if up is None or not after:
        return None
    return _found(node, after[0], up, after[0], module, resize_conv)


def find_conv_pool(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """Convolution -> average pooling."""
    if not isinstance(called(node, module), nn.Conv2d):
        return None
    for user in node.users:
        pool = _operand(user, module, calls.POOLINGS, F.avg_pool2d, _POOL)
        if pool is not None and input_of(user) is node:
            return _found(node, user, pool, node, module, conv_pool)
    return None


def _operand(node: fx.Node, module: nn.Module, kinds: dict[type, str], function: Any, names: tuple[str, ...]) -> Any:
    """What stands for a resampling in a call: Held, or the function with its arguments. None for another step, a text
    for one that is left alone."""
    child = called(node, module)
    if child is not None:
        if not isinstance(child, tuple(kinds)):
            return None
        if len(node.args) + len(node.kwargs) != 1:
            return f"the {type(child).__name__} is called with something else than one tensor"
        return why_not(child, kinds) or Held(str(node.target))
    if node.op != "call_function" or node.target is not function:
        return None
    arguments = dict(zip(names, node.args[1:])) | {k: v for k, v in node.kwargs.items() if k != "input"}
    if any(isinstance(value, fx.Node) for value in pytree.tree_leaves(arguments)):
        return "its size is computed in the forward"
    return bound(function, arguments)


def _found(
    first: fx.Node, last: fx.Node, resampling: Any, convolution: fx.Node, module: nn.Module, call: Any
) -> Site | Miss:
    path, conv, before = str(convolution.target), called(convolution, module), input_of(first)
    assert conv is not None
    text = f"{name_of(first, module)} -> {name_of(last, module)}"
    if isinstance(resampling, str):
        return Miss(path, text, resampling)
    if len(first.users) > 1:
        what = "convolution" if first is convolution else "upsampling"
        return Miss(path, text, f"the output of the {what} is used {len(first.users)} times")
    if reason := why_not_convolution(conv):
        return Miss(path, text, reason)
    if before is None or len(convolution.args) + len(convolution.kwargs) != 1:
        return Miss(path, text, "the convolution is called with something else than one tensor")
    if not _follows_at_once(first, last):
        return Miss(path, text, "something else runs between the two")
    up = call is resize_conv
    held = module.get_submodule(resampling.path) if isinstance(resampling, Held) else resampling
    settings = _upsampling(held) if up else _pooling(held)
    reason = (_why_not_upsampled if up else _why_not_pooled)(settings or {}, conv)
    if reason:
        return Miss(path, text, reason)
    operands = (resampling, Held(path), before) if up else (Held(path), resampling, before)
    return Site(path, text, call.__name__, call, operands, (first, last), "", _conditions(conv))


def _follows_at_once(first: fx.Node, last: fx.Node) -> bool:
    """The call of both stands where the first was: nothing between may see that the last comes earlier."""
    node = first.next
    while node is not last:
        if node.op != "get_attr" and node.target not in (F.interpolate, F.avg_pool2d):
            return False
        node = node.next
    return True


def _conditions(conv: Any) -> tuple[str, ...]:
    common = (
        "float32, bfloat16, float16, float64",
        "with a batch dimension",
        "not inside torch.func, forward-mode differentiation, torch.jit.trace, torch.export",
    )
    if conv.kernel_size == (1, 1):
        return (*common, "the 1x1 convolution runs on the smaller map")
    least: dict[int, list[str]] = {}
    for dtype, limits in merged.LEAST.items():
        least.setdefault(limits.training, []).append(str(dtype)[6:])
    sizes = ", ".join(f"{count:,} ({', '.join(names)})" for count, names in least.items())
    return (*common, f"where it pays: smaller maps of about N H W = {sizes} or more")
