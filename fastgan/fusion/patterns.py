"""What can be fused: patterns sought in the graph of one forward, and why a near miss is left alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from fastgan.fusion import calls


class Held(NamedTuple):
    """An operand of a fused call: what the module holds at this path, a child or a parameter, read at each call."""

    path: str


@dataclass(frozen=True)
class Site:
    """Consecutive steps of a forward, each the only user of the one before, that one call replaces."""

    path: str  # of the module that the report names
    pattern: str
    kernel: str  # the op that does the work
    call: Callable[..., Any]  # of the name of a backend and the operands
    operands: tuple[Any, ...]  # graph nodes, things held and constants
    steps: tuple[fx.Node, ...]  # the result takes the place of the first and the users of the last
    note: str = ""  # why a longer pattern was not found there
    conditions: tuple[str, ...] = ()  # of the op, else the modules run


@dataclass(frozen=True)
class Miss:
    """Steps that look like a pattern and are left alone."""

    path: str
    pattern: str
    reason: str


def find(graph: fx.Graph, module: nn.Module) -> list[Site | Miss]:
    """All that is fused, or nearly, in the graph of a forward of `module`, in its order."""
    found: list[Site | Miss] = []
    taken: set[fx.Node] = set()
    for node in graph.nodes:
        for pattern in PATTERNS:
            match = pattern(node, module)
            if match is None or (isinstance(match, Site) and taken.intersection(match.steps)):
                continue
            found.append(match)
            if isinstance(match, Site):
                taken.update(match.steps)
            break
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
ANCHORS = (*_NORMS, *_CONVOLUTIONS)
_FUNCTIONAL_NORMS = (F.batch_norm, F.instance_norm, torch.batch_norm, torch.instance_norm)


def norm_act(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """Batch or instance norm -> activation, or such a norm alone, with or without another layer before."""
    norm = _called(node, module)
    if not isinstance(norm, _NORMS) and node.target not in _FUNCTIONAL_NORMS:
        return None
    path = str(node.target) if norm is not None else ""
    before, after = _input(node), list(node.users)
    text = _name(node, module)
    if isinstance(before, fx.Node) and before.op in ("call_module", "call_function", "call_method"):
        text = f"{_name(before, module)} -> {text}"
    followed = len(after) == 1 and _follows(after[0], node, module)
    whole = f"{text} -> {_name(after[0], module)}" if followed else text
    if norm is None:
        return Miss(path, whole, "a functional norm; norms that are modules are fused")
    if reason := _why_not(norm, calls.NORMS):
        return Miss(path, whole, reason)
    if before is None or len(node.args) + len(node.kwargs) != 1:
        return Miss(path, whole, "the norm is called with something else than one tensor")
    activation = _activation(after[0], module) if followed else _why_alone(before, after, module)
    if isinstance(activation, str):
        return _site(path, text, calls.norm_act, calls.NONE, before, (), (node,), module, activation)
    return _site(path, whole, calls.norm_act, activation[0], before, activation[1], (node, after[0]), module)


def _why_alone(before: Any, after: list[fx.Node], module: nn.Module) -> str:
    """Why a norm is fused without an activation after it."""
    if len(after) > 1:
        return f"the output of the norm is used {len(after)} times"
    if _is_activation(before, module) and not isinstance(_called(before, module), nn.Identity):
        return "the activation comes before the norm"
    if not after or after[0].op == "output":
        return "no activation follows the norm in this forward"
    if _is_dropout(after[0], module) and any(_is_activation(user, module) for user in after[0].users):
        return "dropout between the norm and the activation"
    return f"the norm is followed by {_name(after[0], module)}, not by an activation"


def bias_act(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """Convolution -> activation: the convolution without its bias, then bias and activation in its result."""
    conv = _called(node, module)
    after = [user for user in node.users if _follows(user, node, module)]
    if not isinstance(conv, _CONVOLUTIONS) or not after or isinstance(_called(after[0], module), nn.Identity):
        return None
    path, act, before = str(node.target), after[0], _input(node)
    text = f"{_name(node, module)} -> {_name(act, module)}"

    def miss(reason: str) -> Miss:
        return Miss(path, text, reason)

    if len(node.users) > 1:
        return miss(f"the output of the convolution is used {len(node.users)} times")
    if reason := _why_not_convolution(conv):
        return miss(reason)
    if before is None or len(node.args) + len(node.kwargs) != 1:
        return miss("the convolution is called with something else than one tensor")
    activation = _activation(act, module)
    if isinstance(activation, str):
        return miss(activation)
    operand, weight = activation
    dtype = next((p.dtype for p in conv.parameters()), torch.get_default_dtype())
    if reason := calls.no_gain(dtype, conv.bias is not None):
        return miss(reason)
    in_place, only_read = calls.in_place(_called(act, module) or operand), _is_only_read(act, module)
    if _name_in_op(operand, module) in calls.KEEP_INPUT and not in_place and not only_read:
        return miss(
            f"the result of {_name(act, module)} may be overwritten later, which PyTorch allows where the activation "
            "is not in place; with inplace=True it is fused"
        )
    dtypes = [d for d in calls.DTYPES if not calls.no_gain(d, conv.bias is not None)]
    site = _site(path, text, calls.bias_act, operand, before, (only_read, *weight), (node, act), module, "", dtypes)
    size = f"maps of {calls.LEAST_ELEMENTS:,} elements (N C H W) or more"
    return replace(site, conditions=(*site.conditions, size))


def linear(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """A convolution whose kernel covers the map, or a transposed one of single elements: a matrix product."""
    conv, before = _called(node, module), _input(node)
    if not calls.covers(conv) or before is None or len(node.args) + len(node.kwargs) != 1 or calls.changed(conv):
        return None
    conditions = (
        "float32, bfloat16, float16, float64",
        "maps of 1x1" if getattr(conv, "transposed", False) else "maps as large as the kernel",
        "not inside torch.func, forward-mode differentiation, torch.jit.trace, torch.export",
    )
    path = str(node.target)
    return Site(path, _name(node, module), "linear", calls.linear, (Held(path), before), (node,), "", conditions)


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
        called = _called(user, module)
        if called is not None:
            if not _reads(called) and not (_views(called) and _is_only_read(user, module)):
                return False
        elif user.op not in ("call_function", "call_method") or "out" in user.kwargs:
            return False
        elif user.target is getattr and user.args[1] in ("shape", "dtype", "device"):
            continue
        elif _function_name(user) not in _READ and not (
            _function_name(user) in _VIEWED and _is_only_read(user, module)
        ):
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
    return (
        isinstance(module, _VIEWERS) and type(module).__module__.startswith("torch.nn.") and not calls.in_place(module)
    )


# A pattern looks at one node of the graph of a forward, the first of its steps that is replaced.
PATTERNS: tuple[Callable[[fx.Node, nn.Module], Site | Miss | None], ...] = (norm_act, linear, bias_act)


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
    prelu = ("prelu: not under autocast",) if _name_in_op(act, module) == "prelu" else ()
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
    act = _called(node, module)
    if act is not None:
        if len(node.args) + len(node.kwargs) != 1:
            return "the activation is called with something else than one tensor"
        return _why_not(act, calls.ACTIVATIONS) or (Held(str(node.target)), ())
    known = _FUNCTIONS.get(node.target)
    if known is None:
        return f"no kernel for {_name(node, module)}"
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
    in_place = bool(arguments.get("inplace")) or _function_name(node).endswith("_")
    return calls.Functional(known.name, float(slope), _bound(call, arguments), in_place), ()


def _bound(call: Any, arguments: dict[str, Any]) -> Callable[..., Any]:
    return functools.partial(call, **arguments) if arguments else call


def _why_not(module: nn.Module, known: dict[type, Any]) -> str:
    """Why a norm or activation cannot be fused, or ""."""
    kind = type(module)
    if kind not in known:
        if isinstance(module, nn.modules.lazy.LazyModuleMixin):
            return f"{kind.__name__} is not initialised; run one forward, then fuse"
        if is_parametrized(module):
            return f"the {kind.__mro__[1].__name__} is parametrized"
        base = next((k for k in kind.__mro__ if k in known), None)
        return (
            f"{kind.__name__} is a subclass of {base.__name__} with code of its own"
            if base
            else f"no kernel for {kind.__name__}"
        )
    reason = calls.changed(module)
    return f"{kind.__name__} {reason}" if reason else ""


def _why_not_convolution(conv: nn.Module) -> str:
    """Why a convolution cannot be called without its bias, or ""."""
    kind: Any = type(conv)
    if not is_parametrized(conv) or kind.__base__ not in calls.CONVOLUTIONS:
        return _why_not(conv, calls.CONVOLUTIONS)
    name = kind.__base__.__name__
    if list(conv.parametrizations) != ["weight"]:  # type: ignore[arg-type]
        return f"the bias of the {name} is parametrized"
    for parametrization in conv.parametrizations["weight"]:  # type: ignore[index]
        if type(parametrization) not in calls.PARAMETRIZATIONS:
            return (
                f"the weight of the {name} is parametrized by {type(parametrization).__name__}; "
                "of those, spectral_norm and weight_norm are fused"
            )
    reason = calls.changed(conv)
    return f"{name} {reason}" if reason else ""


def _called(node: Any, module: nn.Module) -> nn.Module | None:
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return module.get_submodule(str(node.target))


def _input(node: fx.Node) -> Any:
    return node.args[0] if node.args else node.kwargs.get("input")


def _is_activation(node: Any, module: nn.Module) -> bool:
    act = _called(node, module)
    if act is not None:
        return isinstance(act, (*calls.ACTIVATIONS, *_OTHER_ACTIVATIONS))
    if not isinstance(node, fx.Node) or node.op not in ("call_function", "call_method"):
        return False
    return node.target in _FUNCTIONS or _name(node, module).strip("._") in _OTHER_FUNCTIONS


def _follows(act: fx.Node, node: fx.Node, module: nn.Module) -> bool:
    """Whether `act` is an activation of what `node` gives, which is not, say, its slope."""
    return _is_activation(act, module) and _input(act) is node


def _is_dropout(node: fx.Node, module: nn.Module) -> bool:
    return "dropout" in _name(node, module).lower()


_SIGNS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "matmul": "@", "getitem": "[...]",
          "iadd": "+=", "isub": "-=", "imul": "*=", "itruediv": "/="}  # fmt: skip


def _name(node: fx.Node, module: nn.Module) -> str:
    """As the user writes it."""
    called = _called(node, module)
    if called is not None:
        return type(called).__name__
    name = _function_name(node)
    return f".{name}" if node.op == "call_method" else _SIGNS.get(name.strip("_"), name.strip("_"))


def _function_name(node: fx.Node) -> str:
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
