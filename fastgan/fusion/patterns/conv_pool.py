"""Convolution -> average pooling: one strided convolution; a 1x1 convolution moves above the pooling."""

from __future__ import annotations

import functools
from typing import Any

import torch.nn.functional as F
from torch import fx, nn

from fastgan import watched
from fastgan.convolutions import merged
from fastgan.fusion.patterns.layers import computed_weight
from fastgan.fusion.patterns.pattern import Miss, Pattern, Site, called, input_of
from fastgan.fusion.patterns.resampling import Pair, Resampling, fits, is_plain, pair, why_not_convolved

_POOLING = Resampling(
    (nn.AvgPool2d,),
    F.avg_pool2d,
    ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
)


def find(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """A convolution and the average pooling after it."""
    if not isinstance(called(node, module), nn.Conv2d):
        return None
    for user in node.users:
        pool = _POOLING.find(user, module)
        if pool is not None and input_of(user) is node:
            return Pair(node, user, node, pool).site(PATTERN, module, _settings, _why_not)
    return None


def run(backend: str, conv: Any, pool: Any, x: Any) -> Any:
    """pool(conv(x)), in one op where that computes the same. A 1x1 convolution moves above the pooling."""
    if not is_plain(backend, conv, x) or (type(pool) in _POOLING.kinds and watched.changed(pool)):
        return pool(conv(x))
    settings = _settings(pool)
    if settings is None or _why_not(settings, conv):
        return pool(conv(x))
    if any(size < kernel for size, kernel in zip(x.shape[2:], pair(settings["kernel_size"]))):  # PyTorch's error
        return pool(conv(x))
    if conv.kernel_size == (1, 1):
        return conv(pool(x))
    if not merged.pays("conv_pool", x, conv.out_channels, conv.kernel_size, conv.groups):
        return pool(conv(x))
    weight = computed_weight(conv, x)
    if not fits(conv, weight, x):
        return pool(conv._conv_forward(x, weight, conv.bias))
    return merged.pool(x, weight, conv.bias, conv.groups)


PATTERN = Pattern("conv_pool", find, run, composed=True, displaced="avg_pool")


def _settings(pool: Any) -> dict[str, Any] | None:
    """The arguments of F.avg_pool2d; None for something else, put in the place of a pooling."""
    if isinstance(pool, functools.partial):
        return dict(pool.keywords)
    if type(pool) in _POOLING.kinds:
        return {name: getattr(pool, name) for name in _POOLING.parameters}
    return None


def _why_not(settings: dict[str, Any], conv: Any) -> str:
    """Why a convolution before such a pooling is neither merged with it nor moved above it, or ""."""
    if reason := why_not_convolved(conv):
        return reason
    kernel = pair(settings.get("kernel_size"))
    stride = pair(settings.get("stride") or kernel)
    if len(kernel) != 2 or not all(type(n) is int and n > 0 for n in (*kernel, *stride)):
        return "the size of the pooling is computed in the forward, or not of a map"
    if pair(settings.get("padding", 0)) != (0, 0):
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
