"""Upsampling -> convolution: one transposed convolution; a 1x1 convolution moves below the upsampling."""

from __future__ import annotations

import functools
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastgan import watched
from fastgan.convolutions import merged
from fastgan.fusion.patterns.layers import computed_weight
from fastgan.fusion.patterns.pattern import Miss, Pattern, Site, called, input_of
from fastgan.fusion.patterns.resampling import Pair, Resampling, fits, is_plain, pair, why_not_convolved

_NEAREST = ("nearest", "nearest-exact")  # for x2 the same
_MOVABLE = (*_NEAREST, "bilinear")  # their weights sum to one, so that a 1x1 convolution commutes with them
_UPSAMPLING = Resampling(
    (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
    F.interpolate,
    ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias"),
)
_ATTRIBUTES = _UPSAMPLING.parameters[:-1]  # which a module has


def find(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """An upsampling and the convolution after it."""
    up = _UPSAMPLING.find(node, module)
    after = [user for user in node.users if isinstance(called(user, module), nn.Conv2d) and input_of(user) is node]
    if up is None or not after:
        return None
    return Pair(node, after[0], after[0], up).site(PATTERN, module, _settings, _why_not)


def run(backend: str, up: Any, conv: Any, x: Any) -> Any:
    """conv(up(x)), in one op where that computes the same. A 1x1 convolution moves below the upsampling."""
    if not is_plain(backend, conv, x) or (type(up) in _UPSAMPLING.kinds and watched.changed(up)):
        return conv(up(x))
    settings = _settings(up)
    if settings is None or _why_not(settings, conv) or not _grows(settings, x):
        return conv(up(x))
    if conv.kernel_size == (1, 1):
        return up(conv(x))
    if not merged.pays("resize_conv", x, conv.out_channels, conv.kernel_size, conv.groups):
        return conv(up(x))
    weight = computed_weight(conv, x)
    if not fits(conv, weight, x):
        return conv._conv_forward(up(x), weight, conv.bias)
    return merged.resize(x, weight, conv.bias, conv.groups)


PATTERN = Pattern("resize_conv", find, run, composed=True, displaced="upsample")


def _settings(up: Any) -> dict[str, Any] | None:
    """The arguments of F.interpolate that are not None; None for something else, put in the place of an upsampling."""
    if isinstance(up, functools.partial):
        return {name: value for name, value in up.keywords.items() if value is not None}
    if up is F.interpolate or type(up) not in _UPSAMPLING.kinds:
        return None
    return {name: value for name in _ATTRIBUTES if (value := getattr(up, name)) is not None}


def _grows(settings: dict[str, Any], x: Tensor) -> bool:
    """Whether the upsampled map is larger than x."""
    if (size := settings.get("size")) is not None:
        height, width = pair(size)
        return height * width > x.shape[2] * x.shape[3]
    height, width = pair(settings["scale_factor"])
    return height * width > 1


def _why_not(settings: dict[str, Any], conv: Any) -> str:
    """Why a convolution after such an upsampling is neither merged with it nor moved below it, or ""."""
    if reason := why_not_convolved(conv):
        return reason
    mode, scale = settings.get("mode", "nearest"), settings.get("scale_factor")
    known = _MOVABLE if conv.kernel_size == (1, 1) else _NEAREST
    if mode not in known:
        return f"the upsampling is {mode}; before such a convolution {' and '.join(known)} are fused"
    numbers = pair(settings.get("size", scale))
    if len(numbers) != 2 or not all(type(number) in (int, float) for number in numbers):
        return "the size of the upsampling is computed in the forward, or not of a map"
    if conv.kernel_size == (1, 1):
        return ""
    if scale is None or "size" in settings:
        return "the upsampling has a size; with scale_factor=2 it is fused"
    if "align_corners" in settings or settings.get("antialias"):  # an error, which is PyTorch's to give
        return f"{mode} upsampling takes neither align_corners nor antialias"
    return "" if pair(scale) == (2, 2) else f"the upsampling has scale_factor={scale}; 2 is fused"
