"""What can be fused: patterns sought in the graph of one forward, and why a near miss is left alone."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn

from fastgan import watched
from fastgan.fusion import activations, calls, convolution, resampling
from fastgan.fusion.sites import (
    Held,
    Miss,
    Site,
    bound,
    called,
    function_name,
    input_of,
    name_of,
    why_not,
    why_not_convolution,
)


def find(graph: fx.Graph, module: nn.Module) -> list[Site | Miss]:
    """All that is fused, or nearly, in the graph of a forward of `module`, in its order."""
    found: list[Site | Miss] = []
    taken: set[fx.Node] = set()
    for node in graph.nodes:
        miss: Miss | None = None  # the first, told where no other pattern is found at this node
        for pattern in PATTERNS:
            match = pattern(node, module)
            if isinstance(match, Miss):
                miss = miss or match
            elif match is not None and not taken.intersection(match.steps):
                found.append(match)
                taken.update(match.steps)
                break
        else:
            if miss:
                found.append(miss)
    return found


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
# Activations without a kernel. Dropout and the like are not activations: the norm is then followed by something else.
_OTHER_ACTIVATIONS = (
    *(nn.GELU, nn.Softplus, nn.Softsign, nn.Mish, nn.SELU, nn.CELU, nn.RReLU, nn.ReLU6, nn.GLU, nn.Hardtanh),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardshrink, nn.LogSigmoid, nn.Softmax, nn.Softmax2d, nn.LogSoftmax),
    *(nn.Tanhshrink, nn.Threshold, nn.Softshrink),
)
_OTHER_FUNCTIONS = {kind.__name__.lower() for kind in _OTHER_ACTIVATIONS} | {"rrelu", "relu6", "log_softmax"}
_NORMS = (nn.modules.batchnorm._NormBase,)
_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
# A module that holds none of these holds no pattern.
ANCHORS = (*_NORMS, *_CONVOLUTIONS, nn.Linear, nn.ELU, nn.Tanh)
_FUNCTIONAL_NORMS = (F.batch_norm, F.instance_norm, torch.batch_norm, torch.instance_norm)


def norm_act(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """Batch or instance norm -> activation, or such a norm alone, with or without another layer before."""
    norm = called(node, module)
    if not isinstance(norm, _NORMS) and node.target not in _FUNCTIONAL_NORMS:
        return None
    path = str(node.target) if norm is not None else ""
    before, after = input_of(node), list(node.users)
    text = name_of(node, module)
    if isinstance(before, fx.Node) and before.op in ("call_module", "call_function", "call_method"):
        text = f"{name_of(before, module)} -> {text}"
    followed = len(after) == 1 and _follows(after[0], node, module)
    whole = f"{text} -> {name_of(after[0], module)}" if followed else text
    if norm is None:
        return Miss(path, whole, "a functional norm; norms that are modules are fused")
    if reason := why_not(norm, calls.NORMS):
        return Miss(path, whole, reason)
    if before is None or len(node.args) + len(node.kwargs) != 1:
        return Miss(path, whole, "the norm is called with something else than one tensor")
    activation = _activation(after[0], module) if followed else _why_alone(before, after, module)
    if isinstance(activation, str):
        return _site(
            path, text, calls.norm_act, calls.NONE, before, (_reader(node, module),), (node,), module, activation
        )
    more = _reader(after[0], module), *activation[1]
    return _site(path, whole, calls.norm_act, activation[0], before, more, (node, after[0]), module)


_SUMS = (operator.add, torch.add)
_PADS = (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d)


def _reader(node: fx.Node, module: nn.Module) -> Held | fx.Node | None:
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
    return Held(str(user.target)) if type(child) in (nn.Conv2d, nn.ConvTranspose2d) else None


def _why_alone(before: Any, after: list[fx.Node], module: nn.Module) -> str:
    """Why a norm is fused without an activation after it."""
    if len(after) > 1:
        return f"the output of the norm is used {len(after)} times"
    if _is_activation(before, module) and not isinstance(called(before, module), nn.Identity):
        return "the activation comes before the norm"
    if not after or after[0].op == "output":
        return "no activation follows the norm in this forward"
    if _is_dropout(after[0], module) and any(_is_activation(user, module) for user in after[0].users):
        return "dropout between the norm and the activation"
    return f"the norm is followed by {name_of(after[0], module)}, not by an activation"


def bias_act(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """Convolution -> activation: the convolution without its bias, then bias and activation in its result."""
    conv = called(node, module)
    after = [user for user in node.users if _follows(user, node, module)]
    if not isinstance(conv, _CONVOLUTIONS) or not after or isinstance(called(after[0], module), nn.Identity):
        return None
    path, act, before = str(node.target), after[0], input_of(node)
    text = f"{name_of(node, module)} -> {name_of(act, module)}"

    def miss(reason: str) -> Miss:
        return Miss(path, text, reason)

    if len(node.users) > 1:
        return miss(f"the output of the convolution is used {len(node.users)} times")
    if reason := why_not_convolution(conv):
        return miss(reason)
    if before is None or len(node.args) + len(node.kwargs) != 1:
        return miss("the convolution is called with something else than one tensor")
    activation = _activation(act, module)
    if isinstance(activation, str):
        return miss(activation)
    operand, weight = activation
    dtype = next((p.dtype for p in conv.parameters()), torch.get_default_dtype())
    name, bias = _name_in_op(operand, module), conv.bias is not None
    if reason := activations.no_gain(dtype, bias, name):
        return miss(reason)
    in_place, only_read = calls.in_place(called(act, module) or operand), _is_only_read(act, module)
    if name in calls.KEEP_INPUT and not in_place and not only_read:
        return miss(
            f"the result of {name_of(act, module)} may be overwritten later, which PyTorch allows where the activation "
            "is not in place; with inplace=True it is fused"
        )
    dtypes = [d for d in calls.DTYPES if not activations.no_gain(d, bias, name)]
    more = (only_read, *weight)
    site = _site(path, text, activations.bias_act, operand, before, more, (node, act), module, "", dtypes)
    size = f"maps of {activations.LEAST_ELEMENTS[name in activations.COSTLY]:,} elements (N C H W) or more"
    return replace(site, conditions=(*site.conditions, size))


def costly(node: fx.Node, module: nn.Module) -> Site | None:
    """An activation that PyTorch takes long for, after something else than a norm or a convolution."""
    before = input_of(node)
    if not _is_activation(node, module) or not isinstance(before, fx.Node):
        return None
    activation = _activation(node, module)
    if isinstance(activation, str) or _name_in_op(activation[0], module) not in activations.COSTLY:
        return None
    child, act = called(node, module), activation[0]
    in_place, name = calls.in_place(child or act), _name_in_op(act, module)
    if in_place:  # what it gets must be nobody else's, for the op may leave it as it is
        fitting = len(before.users) == 1 and isinstance(called(before, module), _READERS)
    else:
        fitting = name not in calls.KEEP_INPUT or _is_only_read(node, module)
    if not fitting:
        return None
    dtypes = [dtype for dtype in calls.DTYPES if not activations.no_gain(dtype, False, name)]
    conditions = (
        ", ".join(str(dtype)[6:] for dtype in dtypes),
        *("contiguous or channels_last", *_CONDITIONS[1:]),
        f"maps of {activations.LEAST_ELEMENTS[True]:,} elements (N C H W) or more",
    )
    path = "" if child is None else str(node.target)
    operands = (act, before, in_place)
    return Site(path, name_of(node, module), "bias_act", activations.activate, operands, (node,), "", conditions)


def linear(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """A convolution whose kernel covers the map, or a transposed one of single elements: a matrix product."""
    conv, before = called(node, module), input_of(node)
    if not calls.covers(conv) or before is None or len(node.args) + len(node.kwargs) != 1 or watched.changed(conv):
        return None
    conditions = (
        "float32, bfloat16, float16, float64",
        "maps of 1x1" if getattr(conv, "transposed", False) else "maps as large as the kernel",
        "not inside torch.func, forward-mode differentiation, torch.jit.trace, torch.export",
    )
    path = str(node.target)
    return Site(path, name_of(node, module), "linear", calls.linear, (Held(path), before), (node,), "", conditions)


_READERS = (
    *(nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.Upsample),
    *(nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd),
)
_VIEWERS = (nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd)
_READ = {"add", "sub", "mul", "truediv", "neg", "pow", "matmul", "cat", "mean", "sum", "size", "dim", "interpolate",
         "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d", "adaptive_avg_pool2d", "conv2d", "linear"}  # fmt: skip
_VIEWED = {"view", "reshape", "flatten", "squeeze", "unsqueeze", "contiguous"}


def _is_only_read(node: fx.Node, module: nn.Module) -> bool:
    """Whether nothing overwrites the result of `node`: all that uses it is in this forward, and known not to."""
    for user in node.users:
        child = called(user, module)
        if child is not None:
            if not _reads(child) and not (_views(child) and _is_only_read(user, module)):
                return False
        elif user.op not in ("call_function", "call_method") or "out" in user.kwargs:
            return False
        elif user.target is getattr and user.args[1] in ("shape", "dtype", "device"):
            continue
        elif function_name(user) not in _READ and not (function_name(user) in _VIEWED and _is_only_read(user, module)):
            return False
    return True


def _reads(module: nn.Module) -> bool:
    """Whether a child leaves what it gets as it is, and gives back something else."""
    kind: Any = type(module)
    if kind.forward is nn.Sequential.forward and len(module._modules):
        first = next(iter(module._modules.values()))
        return first is not None and _reads(first)
    if not kind.__module__.startswith("torch.nn."):
        return False
    if isinstance(module, (*calls.ACTIVATIONS, *_OTHER_ACTIVATIONS)):
        return not calls.in_place(module) and not isinstance(module, nn.Identity)
    return isinstance(module, _READERS)


def _views(module: nn.Module) -> bool:
    """Whether a child may give back what it gets, and leaves that as it is."""
    known = type(module).__module__.startswith(("torch.nn.", "fastgan.nn."))
    return known and isinstance(module, _VIEWERS) and not calls.in_place(module)


# A pattern looks at one node of the graph of a forward, the first of its steps that is replaced.
PATTERNS: tuple[Callable[[fx.Node, nn.Module], Site | Miss | None], ...] = (
    norm_act,
    linear,
    resampling.find_resize_conv,
    resampling.find_conv_pool,
    bias_act,
    convolution.convolution,
    convolution.dense,
    costly,
)


def _site(
    path: str,
    text: str,
    call: Callable[..., Any],
    act: Any,
    before: fx.Node,
    more: tuple[Any, ...],
    steps: tuple[fx.Node, ...],
    module: nn.Module,
    note: str = "",
    dtypes: Sequence[torch.dtype] = calls.DTYPES,
) -> Site:
    prelu = ("prelu: under autocast, in its dtype",) if _name_in_op(act, module) == "prelu" else ()
    conditions = (", ".join(str(dtype)[6:] for dtype in dtypes), *_CONDITIONS, *prelu)
    return Site(path, text, call.__name__, call, (Held(path), act, before, *more), steps, note, conditions)


_CONDITIONS = (
    "contiguous or channels_last, others are copied",
    "with a batch dimension",
    "not inside torch.func, forward-mode differentiation, torch.jit.trace, torch.export",
)


def _name_in_op(act: Any, module: nn.Module) -> str:
    if isinstance(act, calls.Functional):
        return act.name
    return calls.ACTIVATIONS[type(module.get_submodule(act.path))][0]


def _activation(node: fx.Node, module: nn.Module) -> tuple[Any, tuple[Any, ...]] | str:
    """The operand that stands for an activation and, for a functional prelu, its weight; or why it cannot be fused."""
    act = called(node, module)
    if act is not None:
        if len(node.args) + len(node.kwargs) != 1:
            return "the activation is called with something else than one tensor"
        return why_not(act, calls.ACTIVATIONS) or (Held(str(node.target)), ())
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
        return calls.Functional("prelu", 0.0, call), (Held(str(weight.target)),)
    slope = arguments.get("negative_slope", arguments.get("alpha", known.slope))
    if not isinstance(slope, (int, float)) or isinstance(arguments.get("inplace"), fx.Node):
        return "the slope of the activation is computed in the forward"
    in_place = bool(arguments.get("inplace")) or function_name(node).endswith("_")
    return calls.Functional(known.name, float(slope), bound(call, arguments), in_place), ()


def _is_activation(node: Any, module: nn.Module) -> bool:
    act = called(node, module)
    if act is not None:
        return isinstance(act, (*calls.ACTIVATIONS, *_OTHER_ACTIVATIONS))
    if not isinstance(node, fx.Node) or node.op not in ("call_function", "call_method"):
        return False
    return node.target in _FUNCTIONS or name_of(node, module).strip("._") in _OTHER_FUNCTIONS


def _follows(act: fx.Node, node: fx.Node, module: nn.Module) -> bool:
    """Whether `act` is an activation of what `node` gives, which is not, say, its slope."""
    return _is_activation(act, module) and input_of(act) is node


def _is_dropout(node: fx.Node, module: nn.Module) -> bool:
    return "dropout" in name_of(node, module).lower()
