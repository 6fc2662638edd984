"""An activation that PyTorch takes long for, after something else than a norm or a convolution: one op."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from fastgan import backend as _backend
from fastgan import ops, watched
from fastgan.fusion.patterns import activations, bias_act
from fastgan.fusion.patterns.layers import DTYPES, is_channels_last, names
from fastgan.fusion.patterns.pattern import BATCHED, UNRECORDED, Pattern, Site, called, input_of, name_of
from fastgan.fusion.patterns.purity import READERS, is_only_read


def find(node: fx.Node, module: nn.Module) -> Site | None:
    """A costly activation of what another step gives."""
    before = input_of(node)
    if not activations.is_activation(node, module) or not isinstance(before, fx.Node):
        return None
    act = activations.find(node, module)
    if isinstance(act, str) or act.name not in bias_act.COSTLY:
        return None
    if act.in_place:  # what it gets must be nobody else's, for the op may leave it as it is
        fitting = len(before.users) == 1 and isinstance(called(before, module), READERS)
    else:
        fitting = act.name not in bias_act.KEEP_INPUT or is_only_read(node, module)
    if not fitting:
        return None
    dtypes = names(dtype for dtype in DTYPES if not bias_act.no_gain(dtype, False, act.name))
    conditions = (dtypes, "contiguous or channels_last", BATCHED, UNRECORDED, bias_act.least_elements(act.name))
    path = "" if called(node, module) is None else str(node.target)
    return Site(PATTERN, path, name_of(node, module), (act.operand, before, act.in_place), (node,), conditions)


def run(backend: str, act: Any, x: Any, in_place: bool) -> Any:
    """act(x) of a costly activation, in one op where that computes the same.

    `in_place` says that it overwrites x, which nobody else uses.
    """
    if (
        type(x) is not Tensor
        or watched.observed()
        or x.dim() < 2
        or x.dtype not in DTYPES
        or x.numel() < bias_act.LEAST_ELEMENTS[True]
        or not (x.is_contiguous() or is_channels_last(x))  # PyTorch's keeps the layout of others, too
        or _backend.choose("bias_act", x.device.type, backend) == "torch"
        or (named := activations.name_and_slope(act, x, ())) is None
        or bias_act.no_gain(x.dtype, False, named[0])
        or in_place is not activations.in_place(act)
    ):
        return act(x)
    try:
        return ops.bias_act(x, act=named[0], slope=named[1], inplace=in_place, backend=backend)
    except (TypeError, ValueError):  # which it raises before it has changed anything; to complain is PyTorch's part
        return act(x)


PATTERN = Pattern("bias_act", find, run)
