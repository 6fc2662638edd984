"""Convolution -> activation: the convolution without its bias, then bias and activation in its result, in one op."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from fastgan import backend as _backend
from fastgan import ops, watched
from fastgan.fusion.patterns import activations, convolution
from fastgan.fusion.patterns.layers import CONVOLUTIONS, DTYPES, HALF, why_not_convolution
from fastgan.fusion.patterns.layers import convolution as convolution_class
from fastgan.fusion.patterns.pattern import Member, Miss, Pattern, Site, called, name_of, sole_input
from fastgan.fusion.patterns.purity import is_only_read

# Activations that take PyTorch up to twice the time and more, without a bias, too; and those of which bias_act has no
# vectors in float64.
COSTLY = ("elu", "tanh")
SLOW_IN_FLOAT64 = ("elu", "tanh", "sigmoid", "silu")
# Of the map, of a cheap activation and of a costly one. On smaller ones the call of the op costs what it saves.
LEAST_ELEMENTS = (2**20, 2**15)
# For the backward pass PyTorch keeps what these get, unless they overwrite it; bias_act keeps their result. Whatever
# overwrites that in the meantime would be an error of autograd's then.
KEEP_INPUT = ("leaky_relu", "elu")


def find(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """A convolution and the activation after it."""
    conv = called(node, module)
    after = [user for user in node.users if activations.follows(user, node, module)]
    if not isinstance(conv, nn.modules.conv._ConvNd) or not after or isinstance(called(after[0], module), nn.Identity):
        return None
    path, before = str(node.target), sole_input(node)
    text = f"{name_of(node, module)} -> {name_of(after[0], module)}"
    if len(node.users) > 1:
        return Miss(path, text, f"the output of the convolution is used {len(node.users)} times")
    if reason := why_not_convolution(conv):
        return Miss(path, text, reason)
    if before is None:
        return Miss(path, text, "the convolution is called with something else than one tensor")
    act = activations.find(after[0], module)
    if isinstance(act, str):
        return Miss(path, text, act)
    dtype = next((p.dtype for p in conv.parameters()), torch.get_default_dtype())
    bias = conv.bias is not None
    if reason := no_gain(dtype, bias, act.name):
        return Miss(path, text, reason)
    only_read = is_only_read(after[0], module)
    if act.name in KEEP_INPUT and not act.in_place and not only_read:
        reason = (
            f"the result of {name_of(after[0], module)} may be overwritten later, which PyTorch allows where the "
            "activation is not in place; with inplace=True it is fused"
        )
        return Miss(path, text, reason)
    dtypes = [d for d in DTYPES if not no_gain(d, bias, act.name)]
    conditions = (*activations.conditions(dtypes, act.name), least_elements(act.name))
    operands = (Member(path), act.operand, before, only_read, *act.weight)
    return Site(PATTERN, path, text, operands, (node, after[0]), conditions)


def run(backend: str, conv: Any, act: Any, x: Any, only_read: bool, *weight: Tensor) -> Any:
    """act(conv(x), *weight): the convolution, then one op that overwrites its result, where that computes the same.

    `only_read` says that nothing overwrites the result afterwards, `weight` is that of a functional prelu.
    """
    kind = convolution_class(conv)
    if (
        kind is None
        or type(x) is not Tensor
        or x.dim() != CONVOLUTIONS[kind][0]
        or x.dtype not in DTYPES
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
        named = activations.name_and_slope(act, x, weight)
    if (
        named is None
        or no_gain(dtype, bias is not None, named[0])
        or _elements(conv, x) < LEAST_ELEMENTS[named[0] in COSTLY]
        or (named[0] in KEEP_INPUT and not activations.in_place(act) and not only_read)
    ):
        return act(convolution.product(backend, conv, kind, x, bias=True), *weight)
    whole = dtype in HALF  # a sum that is rounded before the bias is added may have another sign and derivative
    z = convolution.product(backend, conv, kind, x, bias=whole)
    name, slope = named
    try:
        return ops.bias_act(z, None if whole else bias, act=name, slope=slope, inplace=True, backend=backend)
    except (TypeError, ValueError):  # which it raises before it has changed anything; to complain is PyTorch's part
        return act(z if whole or bias is None else z + bias.view(-1, *[1] * (z.dim() - 2)), *weight)


PATTERN = Pattern("bias_act", find, run)


def _elements(conv: Any, x: Tensor) -> int:
    """How many elements conv(x) has, but for what its borders take away or add."""
    count = x.numel() // conv.in_channels * conv.out_channels
    for stride in conv.stride:
        count = count * stride if conv.transposed else count // stride
    return count


def least_elements(act: str) -> str:
    """The condition that LEAST_ELEMENTS is."""
    return f"maps of {LEAST_ELEMENTS[act in COSTLY]:,} elements (N C H W) or more"


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
    if dtype in HALF:
        return f"nothing to gain: in {str(dtype)[6:]} the convolution keeps its bias"
    return ""
