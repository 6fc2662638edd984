"""Activations as modules and as functions: which have a kernel, what stands for one in a call, what the op is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastgan import watched
from fastgan.fusion.patterns.layers import names, why_not
from fastgan.fusion.patterns.pattern import (
    BATCHED,
    UNRECORDED,
    Member,
    bound,
    called,
    function_name,
    input_of,
    name_of,
    sole_input,
)

# Activation -> its name in the op, and the attribute that holds its slope.
ACTIVATIONS: dict[type, tuple[str, str | None]] = {
    nn.ReLU: ("relu", None),
    nn.LeakyReLU: ("leaky_relu", "negative_slope"),
    nn.PReLU: ("prelu", "weight"),
    nn.ELU: ("elu", "alpha"),
    nn.Tanh: ("tanh", None),
    nn.Sigmoid: ("sigmoid", None),
    nn.SiLU: ("silu", None),
    nn.Identity: ("none", None),
}
# Activations without a kernel. Dropout and the like are not activations: the norm is then followed by something else.
WITHOUT_KERNEL = (
    *(nn.GELU, nn.Softplus, nn.Softsign, nn.Mish, nn.SELU, nn.CELU, nn.RReLU, nn.ReLU6, nn.GLU, nn.Hardtanh),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardshrink, nn.LogSigmoid, nn.Softmax, nn.Softmax2d, nn.LogSoftmax),
    *(nn.Tanhshrink, nn.Threshold, nn.Softshrink),
)
_FUNCTIONS_WITHOUT_KERNEL = {kind.__name__.lower() for kind in WITHOUT_KERNEL} | {"rrelu", "relu6", "log_softmax"}


class _Function(NamedTuple):
    name: str  # in the op
    parameters: tuple[str, ...] = ()  # after the input
    slope: float = 0.0  # default


_FUNCTIONS: dict[Any, _Function] = {
    **dict.fromkeys((F.relu,), _Function("relu", ("inplace",))),
    **dict.fromkeys((F.relu_, torch.relu, torch.relu_, "relu", "relu_"), _Function("relu")),
    **dict.fromkeys((F.leaky_relu,), _Function("leaky_relu", ("negative_slope", "inplace"), 0.01)),
    **dict.fromkeys((F.leaky_relu_,), _Function("leaky_relu", ("negative_slope",), 0.01)),
    **dict.fromkeys((F.elu,), _Function("elu", ("alpha", "inplace"), 1.0)),
    **dict.fromkeys((F.elu_,), _Function("elu", ("alpha",), 1.0)),
    **dict.fromkeys((F.silu,), _Function("silu", ("inplace",))),
    **dict.fromkeys((torch.tanh, torch.tanh_, "tanh", "tanh_"), _Function("tanh")),
    **dict.fromkeys((torch.sigmoid, torch.sigmoid_, "sigmoid", "sigmoid_"), _Function("sigmoid")),
    **dict.fromkeys((F.prelu, torch.prelu, "prelu"), _Function("prelu", ("weight",))),
}


class Functional:
    """An activation written as a function call, `F.leaky_relu(z, 0.2)`, whose slope is a constant of the forward."""

    def __init__(self, name: str, slope: float, call: Callable[..., Tensor], in_place: bool = False) -> None:
        self.name, self.slope, self.call, self.in_place = name, slope, call, in_place

    def __call__(self, z: Tensor, *weight: Tensor) -> Tensor:
        return self.call(z, *weight)


NONE = Functional("none", 0.0, lambda z: z)  # after a norm that no activation follows


class Activation(NamedTuple):
    """What stands for an activation in a call."""

    operand: Member | Functional
    name: str  # in the op
    in_place: bool  # whether it overwrites what it gets
    weight: tuple[Member, ...] = ()  # of a functional prelu


def find(node: fx.Node, module: nn.Module) -> Activation | str:
    """The activation that a step is, or why it cannot be fused."""
    act = called(node, module)
    if act is not None:
        if sole_input(node) is None:
            return "the activation is called with something else than one tensor"
        if reason := why_not(act, ACTIVATIONS):
            return reason
        return Activation(Member(str(node.target)), ACTIVATIONS[type(act)][0], in_place(act))
    known = _FUNCTIONS.get(node.target)
    if known is None:
        return f"no kernel for {name_of(node, module)}"
    arguments = dict(zip(known.parameters, node.args[1:]))
    arguments.update({k: v for k, v in node.kwargs.items() if k != "input"})
    call: Any = getattr(torch, str(node.target)) if node.op == "call_method" else node.target
    if known.name == "prelu":
        weight = arguments.get("weight")
        if not (isinstance(weight, fx.Node) and weight.op == "get_attr"):
            return "the weight of prelu is computed in the forward"
        return Activation(Functional("prelu", 0.0, call), "prelu", False, (Member(str(weight.target)),))
    slope = arguments.get("negative_slope", arguments.get("alpha", known.slope))
    if not isinstance(slope, (int, float)) or isinstance(arguments.get("inplace"), fx.Node):
        return "the slope of the activation is computed in the forward"
    overwrites = bool(arguments.get("inplace")) or function_name(node).endswith("_")
    operand = Functional(known.name, float(slope), bound(call, arguments), overwrites)
    return Activation(operand, known.name, overwrites)


def is_activation(node: Any, module: nn.Module) -> bool:
    """Whether a step is an activation, with a kernel or without."""
    act = called(node, module)
    if act is not None:
        return isinstance(act, (*ACTIVATIONS, *WITHOUT_KERNEL))
    if not isinstance(node, fx.Node) or node.op not in ("call_function", "call_method"):
        return False
    return node.target in _FUNCTIONS or name_of(node, module).strip("._") in _FUNCTIONS_WITHOUT_KERNEL


def follows(act: fx.Node, node: fx.Node, module: nn.Module) -> bool:
    """Whether `act` is an activation of what `node` gives, which is not, say, its slope."""
    return is_activation(act, module) and input_of(act) is node


def conditions(dtypes: Iterable[torch.dtype], act: str) -> tuple[str, ...]:
    """Of an op with the activation of this name after something."""
    prelu = ("prelu: under autocast, in its dtype",) if act == "prelu" else ()
    return (names(dtypes), "contiguous or channels_last, others are copied", BATCHED, UNRECORDED, *prelu)


def in_place(act: Any) -> bool:
    """Whether an activation, as a module or a Functional, overwrites what it gets."""
    return act.in_place if type(act) is Functional else bool(getattr(act, "inplace", False))


def name_and_slope(act: Any, x: Tensor, weight: tuple[Tensor, ...]) -> tuple[str, Any] | None:
    """What the op is to be told of an activation of what comes of x, or None where the activation must be called."""
    if type(act) is Functional:
        name = act.name
        slope = weight[0] if weight else act.slope
    elif type(act) in ACTIVATIONS and not watched.changed(act):
        name, attribute = ACTIVATIONS[type(act)]
        slope = 0.0 if attribute is None else getattr(act, attribute)
    else:
        return None
    if name == "prelu":
        device = x.device.type  # autocast changes the dtype of what prelu gets, and so of what it gives
        if torch.is_autocast_enabled(device) and x.dtype is not torch.get_autocast_dtype(device):
            return None
    elif type(slope) is not float and type(slope) is not int:
        return None
    return name, slope
