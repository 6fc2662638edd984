"""Batch or instance norm -> activation, or such a norm alone: one op."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastgan import backend as _backend
from fastgan import watched
from fastgan.fusion.patterns import activations
from fastgan.fusion.patterns.activations import NONE, is_activation
from fastgan.fusion.patterns.layers import DTYPES, INSTANCE_NORMS, NORMS, is_channels_last, why_not
from fastgan.fusion.patterns.pattern import Member, Miss, Pattern, Site, called, input_of, name_of, sole_input
from fastgan.nn.norm_act import apply_norm

_FUNCTIONAL_NORMS = (F.batch_norm, F.instance_norm, torch.batch_norm, torch.instance_norm)
_SUMS = (operator.add, torch.add)
_PADS = (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d)


def find(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """A norm, with the activation after it or without, with or without another layer before."""
    norm = called(node, module)
    if not isinstance(norm, nn.modules.batchnorm._NormBase) and node.target not in _FUNCTIONAL_NORMS:
        return None
    path = str(node.target) if norm is not None else ""
    before, after = input_of(node), list(node.users)
    text = name_of(node, module)
    if isinstance(before, fx.Node) and before.op in ("call_module", "call_function", "call_method"):
        text = f"{name_of(before, module)} -> {text}"
    followed = len(after) == 1 and activations.follows(after[0], node, module)
    whole = f"{text} -> {name_of(after[0], module)}" if followed else text
    if norm is None:
        return Miss(path, whole, "a functional norm; norms that are modules are fused")
    if reason := why_not(norm, NORMS):
        return Miss(path, whole, reason)
    if sole_input(node) is None:
        return Miss(path, whole, "the norm is called with something else than one tensor")
    found = activations.find(after[0], module) if followed else _why_alone(before, after, module)
    if isinstance(found, str):
        operands = (Member(path), NONE, before, _reader(node, module))
        return Site(PATTERN, path, text, operands, (node,), activations.conditions(DTYPES, NONE.name), found)
    operands = (Member(path), found.operand, before, _reader(after[0], module), *found.weight)
    conditions = activations.conditions(DTYPES, found.name)
    return Site(PATTERN, path, whole, operands, (node, after[0]), conditions)


def run(backend: str, norm: Any, act: Any, x: Any, reader: Any, *weight: Tensor) -> Any:
    """act(norm(x), *weight), in one op where that computes the same.

    `reader` is what alone reads the result, or None: a convolution, or the tensor that it is added to. `weight` is that
    of a functional prelu.
    """
    kind = type(norm)
    if (
        kind not in NORMS
        or type(x) is not Tensor
        or x.dim() not in NORMS[kind]
        or watched.watched(norm)
        or _backend.choose("norm_act", x.device.type, backend) == "torch"
        or (named := activations.name_and_slope(act, x, weight)) is None
    ):
        return act(norm(x), *weight)
    momentum = norm.momentum
    if not (momentum is None or 0 <= momentum <= 1) or norm.eps <= 0:  # PyTorch computes these, the op refuses them
        return act(norm(x), *weight)
    instance = kind in INSTANCE_NORMS
    if instance and x.size(1) != norm.num_features:  # an error or a warning, which is PyTorch's to give
        return act(norm(x), *weight)
    if (instance and not _keeps_layout(reader, x)) or x.dim() == 3:
        x = x.contiguous()  # as PyTorch's do, so that what takes a view of the result, or overwrites x, works as before
    group = _group(norm) if kind is nn.SyncBatchNorm else None
    try:
        return apply_norm(norm, x, *named, instance=instance, process_group=group, backend=backend)
    except (TypeError, ValueError):  # which it raises before it has changed anything; to complain is PyTorch's part
        return act(norm(x), *weight)


PATTERN = Pattern("norm_act", find, run)


def _reader(node: fx.Node, module: nn.Module) -> Member | fx.Node | None:
    """Who alone reads the result of `node`, so that nobody else sees its layout: a convolution, the result being padded
    or not, or a sum, whose layout is that of its first operand: that operand."""
    if len(node.users) != 1:
        return None
    (user,) = node.users
    child = called(user, module)
    if type(child) in _PADS:
        return _reader(user, module)
    if user.target in _SUMS and len(user.args) == 2 and not user.kwargs:
        first = user.args[0]
        before = itertools.takewhile(lambda other: other is not node, node.graph.nodes)
        return first if isinstance(first, fx.Node) and first is not node and first in before else None
    return Member(str(user.target)) if type(child) in (nn.Conv2d, nn.ConvTranspose2d) else None


def _keeps_layout(reader: Any, x: Tensor) -> bool:
    """Whether what comes of a tensor shaped as x is channels_last whatever that tensor is: by a convolution whose
    weight is channels_last, or added to a tensor that is, of the same shape."""
    if isinstance(reader, Tensor):
        return reader.shape == x.shape and is_channels_last(reader)
    return reader is not None and is_channels_last(reader.weight)


def _why_alone(before: Any, after: list[fx.Node], module: nn.Module) -> str:
    """Why a norm is fused without an activation after it."""
    if len(after) > 1:
        return f"the output of the norm is used {len(after)} times"
    if is_activation(before, module) and not isinstance(called(before, module), nn.Identity):
        return "the activation comes before the norm"
    if not after or after[0].op == "output":
        return "no activation follows the norm in this forward"
    if "dropout" in name_of(after[0], module).lower() and any(is_activation(u, module) for u in after[0].users):
        return "dropout between the norm and the activation"
    return f"the norm is followed by {name_of(after[0], module)}, not by an activation"


def _group(norm: Any) -> Any:
    """The process group over which nn.SyncBatchNorm shares its statistics, or None where it shares none."""
    if not (norm.training and dist.is_available() and dist.is_initialized()):
        return None
    group = norm.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None
