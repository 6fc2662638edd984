"""A fully connected layer that `tune` found faster through oneDNN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from fastgan import watched
from fastgan.convolutions import linear as _op
from fastgan.convolutions import merged
from fastgan.fusion.patterns.convolution import CONDITIONS, tuned
from fastgan.fusion.patterns.pattern import Member, Pattern, Site, called, name_of, sole_input


def find(node: fx.Node, module: nn.Module) -> Site | None:
    layer = called(node, module)
    if type(layer) is not nn.Linear or (before := sole_input(node)) is None:
        return None
    shape = layer.in_features, layer.out_features
    if not tuned("linear.", lambda key: key[1:3] == shape):
        return None
    path = str(node.target)
    return Site(PATTERN, path, name_of(node, module), (Member(path), before), (node,), CONDITIONS)


def run(backend: str, layer: Any, x: Any) -> Any:
    """layer(x), by the fastest library for its shape where nothing watches or changes the module."""
    if (
        type(layer) is not nn.Linear
        or type(x) is not Tensor
        or merged.path(x.device.type, backend) == "torch"
        or torch.compiler.is_compiling()
        or watched.watched(layer)
    ):
        return layer(x)
    return _op.linear(x, layer.weight, layer.bias)


PATTERN = Pattern("dense", find, run, composed=True)
