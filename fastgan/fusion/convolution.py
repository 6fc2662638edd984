"""Single convolutions and fully connected layers whose products another library computes faster."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from fastgan import tuning, watched
from fastgan.convolutions import convolution as _op
from fastgan.convolutions import linear as _linear
from fastgan.convolutions import narrow
from fastgan.fusion import calls
from fastgan.fusion.sites import Held, Site, called, input_of, name_of

LEAST_KERNEL, LEAST_CHANNELS = 3, 64  # below, only what `tune` found is fused, and what makes or reads an image
_CONDITIONS = (
    "float32, bfloat16",
    "where it was measured faster, by fastgan.tune or on the machine of the built-in rule",
    "not inside torch.func, forward-mode differentiation, torch.jit.trace, torch.export, torch.compile",
)


def convolution(node: fx.Node, module: nn.Module) -> Site | None:
    """A convolution large enough for matrix products or Winograd's method, one between an image and a wide map, or one
    that `tune` found faster."""
    conv: Any = called(node, module)
    kind = None if conv is None else _kind(conv)
    if kind is None or input_of(node) is None or len(node.args) + len(node.kwargs) != 1:
        return None
    channels = conv.in_channels, conv.out_channels
    shape = channels if kind is nn.ConvTranspose2d else channels[::-1]
    large = min(channels) >= LEAST_CHANNELS or (min(channels) <= narrow.MOST and max(channels) >= narrow.LEAST_WIDE)
    if conv.groups != 1 or not (
        (large and min(conv.kernel_size) >= LEAST_KERNEL) or _tuned("convolution.", lambda key: key[1:3] == shape)
    ):
        return None
    return Site(
        str(node.target), name_of(node, module), "convolution", convolve, (Held(str(node.target)), input_of(node)),
        (node,), "", _CONDITIONS,
    )  # fmt: skip


def dense(node: fx.Node, module: nn.Module) -> Site | None:
    """A fully connected layer that `tune` found faster through oneDNN."""
    layer = called(node, module)
    if type(layer) is not nn.Linear or input_of(node) is None or len(node.args) + len(node.kwargs) != 1:
        return None
    shape = layer.in_features, layer.out_features
    if not _tuned("linear.", lambda key: key[1:3] == shape):
        return None
    return Site(
        str(node.target), name_of(node, module), "dense", connect, (Held(str(node.target)), input_of(node)), (node,),
        "", _CONDITIONS,
    )  # fmt: skip


def _tuned(op: str, fits: Any) -> bool:
    """Whether `tune` found something faster than PyTorch for a layer of this shape."""
    return any(
        question[0].startswith(op) and fits(question[1]) and way != _op.TORCH
        for question, way in tuning.found().items()
    )


def _kind(conv: Any) -> type | None:
    kind = calls.convolution(conv)
    return kind if kind in (nn.Conv2d, nn.ConvTranspose2d) else None


def convolve(backend: str, conv: Any, x: Any) -> Any:
    """conv(x), by the fastest library for its shape where nothing watches or changes the module."""
    kind = _kind(conv)
    if kind is None or type(x) is not Tensor or x.dim() != 4 or watched.watched(conv):
        return conv(x)
    return product(backend, conv, kind, x, bias=True)


def product(backend: str, conv: Any, kind: type, x: Tensor, bias: bool) -> Tensor:
    """conv(x), with its bias or without, of a convolution that nothing watches or changes. The weight is computed,
    where something computes it, exactly once."""
    for hook in conv._forward_pre_hooks.values():  # of spectral_norm and weight_norm: they set conv.weight
        hook(conv, (x,))
    weight, added = conv.weight, conv.bias if bias else None
    fastest = (
        x.dim() == 4
        and conv.padding_mode == "zeros"
        and not torch.compiler.is_compiling()
        and path(x.device.type, backend) != "torch"
    )
    transposed = calls.CONVOLUTIONS[kind][1]
    if transposed is not None:
        output_padding = conv._output_padding(
            x, None, conv.stride, conv.padding, conv.kernel_size, x.dim() - 2, conv.dilation
        )
        function = _op.conv_transpose2d if fastest else transposed
        return function(x, weight, added, conv.stride, conv.padding, output_padding, conv.groups, conv.dilation)
    if fastest:
        return _op.conv2d(x, weight, added, conv.stride, conv.padding, conv.dilation, conv.groups)
    return conv._conv_forward(x, weight, added)


def connect(backend: str, layer: Any, x: Any) -> Any:
    """layer(x), by the fastest library for its shape where nothing watches or changes the module."""
    if (
        type(layer) is not nn.Linear
        or type(x) is not Tensor
        or path(x.device.type, backend) == "torch"
        or torch.compiler.is_compiling()
        or watched.watched(layer)
    ):
        return layer(x)
    return _linear.linear(x, layer.weight, layer.bias)


def path(device: str, backend: str = "auto") -> str:
    """ "PyTorch" where the products are chosen by measurement, else "torch": the module itself."""
    return calls.linear_path(device, backend)
