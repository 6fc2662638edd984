"""A single convolution whose products another library, or another method, computes faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastgan import tuning, watched
from fastgan.convolutions import convolution as _op
from fastgan.convolutions import merged, narrow
from fastgan.fusion.patterns.layers import CONVOLUTIONS, computed_weight
from fastgan.fusion.patterns.layers import convolution as convolution_class
from fastgan.fusion.patterns.pattern import UNRECORDED, Member, Pattern, Site, called, name_of, sole_input

LEAST_KERNEL, LEAST_CHANNELS = 3, 64  # below, only what `tune` found is fused, and what makes or reads an image
CONDITIONS = (
    "float32, bfloat16",
    "where it was measured faster, by fastgan.tune or on the machine of the built-in rule",
    f"{UNRECORDED}, torch.compile",
)


def find(node: fx.Node, module: nn.Module) -> Site | None:
    """A convolution large enough for matrix products or Winograd's method, one between an image and a wide map, or one
    that `tune` found faster."""
    conv: Any = called(node, module)
    kind = None if conv is None else _kind(conv)
    if kind is None or (before := sole_input(node)) is None:
        return None
    channels = conv.in_channels, conv.out_channels
    shape = channels if kind is nn.ConvTranspose2d else channels[::-1]
    large = min(channels) >= LEAST_CHANNELS or (min(channels) <= narrow.MOST and max(channels) >= narrow.LEAST_WIDE)
    if conv.groups != 1 or not (
        (large and min(conv.kernel_size) >= LEAST_KERNEL) or tuned("convolution.", lambda key: key[1:3] == shape)
    ):
        return None
    path = str(node.target)
    return Site(PATTERN, path, name_of(node, module), (Member(path), before), (node,), CONDITIONS)


def run(backend: str, conv: Any, x: Any) -> Any:
    """conv(x), by the fastest library for its shape where nothing watches or changes the module."""
    kind = _kind(conv)
    if kind is None or type(x) is not Tensor or x.dim() != 4 or watched.watched(conv):
        return conv(x)
    return product(backend, conv, kind, x, bias=True)


PATTERN = Pattern("convolution", find, run, composed=True, displaced="convolution")


def product(backend: str, conv: Any, kind: type, x: Tensor, bias: bool) -> Tensor:
    """conv(x), with its bias or without, of a convolution that nothing watches or changes."""
    weight, added = computed_weight(conv, x), conv.bias if bias else None
    fastest = (
        x.dim() == 4
        and conv.padding_mode == "zeros"
        and not torch.compiler.is_compiling()
        and merged.path(x.device.type, backend) != "torch"
    )
    transposed = CONVOLUTIONS[kind][1]
    if transposed is not None:
        output_padding = conv._output_padding(
            x, None, conv.stride, conv.padding, conv.kernel_size, x.dim() - 2, conv.dilation
        )
        function = _op.conv_transpose2d if fastest else transposed
        return function(x, weight, added, conv.stride, conv.padding, output_padding, conv.groups, conv.dilation)
    if fastest:
        return _op.conv2d(x, weight, added, conv.stride, conv.padding, conv.dilation, conv.groups)
    return conv._conv_forward(x, weight, added)


def tuned(op: str, fits: Callable[[Any], bool]) -> bool:
    """Whether `tune` found something faster than PyTorch for a layer of this shape."""
    return any(
        question[0].startswith(op) and fits(question[1]) and way != _op.TORCH
        for question, way in tuning.found().items()
    )


def _kind(conv: Any) -> type | None:
    kind = convolution_class(conv)
    return kind if kind in (nn.Conv2d, nn.ConvTranspose2d) else None
