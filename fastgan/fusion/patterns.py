"""What can be fused: patterns sought in the graph of one forward, and why a near miss is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
# A module that holds none of these holds no pattern.
ANCHORS = (nn.modules.batchnorm._NormBase,)
_FUNCTIONAL_NORMS = (F.batch_norm, F.instance_norm, torch.batch_norm, torch.instance_norm)


def norm_act(node: fx.Node, module: nn.Module) -> Site | Miss | None:
    """Batch or instance norm -> activation, with or without a convolution or linear layer before."""
    norm = _called(node, module)
    if not isinstance(norm, ANCHORS) and node.target not in _FUNCTIONAL_NORMS:
        return None
    path = str(node.target) if norm is not None else ""
    before, after = _input(node), list(node.users)
    text = _name(node, module)
    if isinstance(before, fx.Node) and before.op in ("call_module", "call_function", "call_method"):
        text = f"{_name(before, module)} -> {text}"

    def miss(reason: str) -> Miss:
        return Miss(path, text, reason)

    if len(after) == 1 and after[0].op != "output":
        text += f" -> {_name(after[0], module)}"
    if norm is None:
        return miss("a functional norm; nn modules are fused")
    if len(after) > 1:
        return miss(f"the output of the norm is used {len(after)} times")
    if not after:
        return miss("the output of the norm is not used")
    if (
        _is_activation(before, module)
        and not isinstance(_called(before, module), nn.Identity)
        and not _is_activation(after[0], module)
    ):
        return miss("the activation comes before the norm")
    if after[0].op == "output":
        return miss("no activation after the norm in this forward; a norm alone is left to PyTorch")
    if _is_dropout(after[0], module):
        return miss("dropout between the norm and an activation")
    if not _is_activation(after[0], module):
        return miss("no activation after the norm; a norm alone is left to PyTorch")
    if reason := _why_not(norm, calls.NORMS):
        return miss(reason)
    if before is None or len(node.args) + len(node.kwargs) != 1 or _input(after[0]) is not node:
        return miss("the norm or the activation is called with something else than one tensor")
    activation = _activation(after[0], module)
    if isinstance(activation, str):
        return miss(activation)
    act, weight = activation
    return Site(
        path,
        text,
        "norm_act",
        calls.norm_act,
        (Held(path), act, before, *weight),
        (node, after[0]),
    )


# A pattern looks at one node of the graph of a forward, the first of its steps that is replaced.
PATTERNS: tuple[Callable[[fx.Node, nn.Module], Site | Miss | None], ...] = (norm_act,)


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
    return calls.Functional(known.name, float(slope), _bound(call, arguments)), ()


def _bound(call: Any, arguments: dict[str, Any]) -> Callable[..., Any]:
    return call if not arguments else lambda z: call(z, **arguments)


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


def _is_dropout(node: fx.Node, module: nn.Module) -> bool:
    return "dropout" in _name(node, module).lower()


def _name(node: fx.Node, module: nn.Module) -> str:
    called = _called(node, module)
    if called is not None:
        return type(called).__name__
    if node.op == "call_method":
        return f".{node.target}"
    return getattr(node.target, "__name__", str(node.target)).strip("_")
