"""Activations: after a convolution in one op with its bias, alone where PyTorch's own takes long."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan import backend as _backend
from fastgan import ops, watched
from fastgan.fusion import calls, convolution

# Activations that take PyTorch up to twice the time and more, without a bias, too; and those of which bias_act has no
# vectors in float64.
COSTLY = ("elu", "tanh")
SLOW_IN_FLOAT64 = ("elu", "tanh", "sigmoid", "silu")
# Of the map, of a cheap activation and of a costly one. On smaller ones the call of the op costs what it saves.
LEAST_ELEMENTS = (2**20, 2**15)
_HALF = (torch.bfloat16, torch.float16)


def bias_act(backend: str, conv: Any, act: Any, x: Any, only_read: bool, *weight: Tensor) -> Any:
    """act(conv(x), *weight): the convolution, then one op that overwrites its result, where that computes the same.

    `only_read` says that nothing overwrites the result afterwards, `weight` is that of a functional prelu.
    """
    kind = calls.convolution(conv)
    if (
        kind is None
        or type(x) is not Tensor
        or x.dim() != calls.CONVOLUTIONS[kind][0]
        or x.dtype not in calls.DTYPES
        or watched.watched(conv)
    ):
        return act(conv(x), *weight)
    bias, dtype = conv.bias, x.dtype
    if torch.is_autocast_enabled(x.device.type) and dtype is not torch.float64:
        dtype = torch.get_autocast_dtype(x.device.type)
    elif bias is not None and bias.dtype is not dtype:  # an error, which is PyTorch's to give
        return act(conv(x), *weight)
    named = None
    if _backend.choose("bias_act", x.device.type, backend) != "torch":
        named = calls.name_and_slope(act, x, weight)
    if (
        named is None
        or no_gain(dtype, bias is not None, named[0])
        or _elements(conv, x) < LEAST_ELEMENTS[named[0] in COSTLY]
        or (named[0] in calls.KEEP_INPUT and not calls.in_place(act) and not only_read)
    ):
        return act(convolution.product(backend, conv, kind, x, bias=True), *weight)
    whole = dtype in _HALF  # a sum that is rounded before the bias is added may have another sign and derivative
    z = convolution.product(backend, conv, kind, x, bias=whole)
    name, slope = named
    try:
        return ops.bias_act(z, None if whole else bias, act=name, slope=slope, inplace=True, backend=backend)
    except (TypeError, ValueError):  # which it raises before it has changed anything; to complain is PyTorch's part
        return act(z if whole or bias is None else z + bias.view(-1, *[1] * (z.dim() - 2)), *weight)


def activate(backend: str, act: Any, x: Any, in_place: bool) -> Any:
    """act(x) of a costly activation, in one op where that computes the same.

    `in_place` says that it overwrites x, which nobody else uses.
    """
    if (
        type(x) is not Tensor
        or watched.observed()
        or x.dim() < 2
        or x.dtype not in calls.DTYPES
        or x.numel() < LEAST_ELEMENTS[True]
        or not (x.is_contiguous() or calls.is_channels_last(x))  # PyTorch's keeps the layout of others, too
        or _backend.choose("bias_act", x.device.type, backend) == "torch"
        or (named := calls.name_and_slope(act, x, ())) is None
        or no_gain(x.dtype, False, named[0])
        or in_place is not calls.in_place(act)
    ):
        return act(x)
    try:
        return ops.bias_act(x, act=named[0], slope=named[1], inplace=in_place, backend=backend)
    except (TypeError, ValueError):  # which it raises before it has changed anything; to complain is PyTorch's part
        return act(x)


def _elements(conv: Any, x: Tensor) -> int:
    """How many elements conv(x) has, but for what its borders take away or add."""
    count = x.numel() // conv.in_channels * conv.out_channels
    for stride in conv.stride:
        count = count * stride if conv.transposed else count // stride
    return count


def no_gain(dtype: torch.dtype, bias: bool, act: str) -> str:
    """Why bias_act is not faster than an activation of PyTorch's after a convolution, or "" where it is.

    It adds the bias in its own pass, and sums the bias's gradient in that of the activation. This function alone
    decides, for `fuse` and at each call: what measures slower is one line more in it.

    Args:
        dtype: of the convolution's result.
        bias: whether the convolution has one.
        act: the activation's name in the op.
    """
    if dtype is torch.float64 and act in SLOW_IN_FLOAT64:
        return f"nothing to gain: in float64 {act} is PyTorch's"
    if act in COSTLY:
        return ""
    if not bias:
        return "nothing to gain: the convolution has no bias"
    if dtype in _HALF:
        return f"nothing to gain: in {str(dtype)[6:]} the convolution keeps its bias"
    return ""
