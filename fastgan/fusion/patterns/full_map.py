"""A convolution whose kernel covers the whole map, or a transposed one of single elements: a matrix product."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastgan import watched
from fastgan.convolutions import merged
from fastgan.fusion.patterns.layers import DTYPES, names
from fastgan.fusion.patterns.pattern import UNRECORDED, Member, Pattern, Site, called, name_of, sole_input


def find(node: fx.Node, module: nn.Module) -> Site | None:
    """The last layer of a DCGAN's discriminator, and the first of its generator."""
    conv, before = called(node, module), sole_input(node)
    if not _covers(conv) or before is None or watched.changed(conv):
        return None
    size = "maps of 1x1" if getattr(conv, "transposed", False) else "maps as large as the kernel"
    path = str(node.target)
    conditions = (names(DTYPES), size, UNRECORDED)
    return Site(PATTERN, path, name_of(node, module), (Member(path), before), (node,), conditions)


def run(backend: str, conv: Any, x: Any) -> Any:
    """conv(x), as a matrix product where the kernel covers the map of x, or makes a map of its single elements."""
    if (
        type(x) is not Tensor
        or x.dim() != 4
        or x.dtype not in DTYPES
        or merged.path(x.device.type, backend) == "torch"
        or not _covers(conv)
        or watched.watched(conv)
        or x.shape[2:] != ((1, 1) if conv.transposed else conv.kernel_size)
        or x.shape[1] != conv.in_channels
        or x.numel() == 0
    ):
        return conv(x)
    weight, bias, (height, width) = conv.weight, conv.bias, conv.kernel_size
    # The weight as a matrix without a copy, in the order of its memory, which the other operand or the result follows.
    last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    if not conv.transposed:
        if not last and not x.is_contiguous():
            last = True  # one copy of the weight rather than one of the map
        if last:
            x, weight = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        return F.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]
    if bias is not None:
        bias = bias.repeat(height * width) if last else bias.repeat_interleave(height * width)
    if last:
        y = F.linear(x.flatten(1), weight.permute(0, 2, 3, 1).flatten(1).t(), bias)
        return y.unflatten(1, (height, width, conv.out_channels)).permute(0, 3, 1, 2)
    y = F.linear(x.flatten(1), weight.flatten(1).t(), bias)
    return y.unflatten(1, (conv.out_channels, height, width))


PATTERN = Pattern("linear", find, run, composed=True, displaced="convolution")  # F.linear runs


def _covers(conv: Any) -> bool:
    """Whether a convolution has the shape of those whose kernel covers the map: even, of 4 or more, without padding."""
    kind = type(conv)
    if kind is nn.ConvTranspose2d:
        shaped = conv.stride == (1, 1) and conv.output_padding == (0, 0) and max(conv.kernel_size) > 1
    else:
        shaped = kind is nn.Conv2d and all(size >= 4 and size % 2 == 0 for size in conv.kernel_size)
    # A hook before its forward may be what computes its weight.
    return bool(
        shaped
        and not conv._forward_pre_hooks
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding in ((0, 0), "valid")
    )
