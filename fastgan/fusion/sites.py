"""What a fused place is, and what the nodes of a graph stand for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from fastgan import watched
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


def called(node: Any, module: nn.Module) -> nn.Module | None:
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return module.get_submodule(str(node.target))


def input_of(node: fx.Node) -> Any:
    return node.args[0] if node.args else node.kwargs.get("input")


_SIGNS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "matmul": "@", "getitem": "[...]",
          "iadd": "+=", "isub": "-=", "imul": "*=", "itruediv": "/="}  # fmt: skip


def name_of(node: fx.Node, module: nn.Module) -> str:
    """As the user writes it."""
    child = called(node, module)
    if child is not None:
        return type(child).__name__
    name = function_name(node)
    return f".{name}" if node.op == "call_method" else _SIGNS.get(name.strip("_"), name.strip("_"))


def function_name(node: fx.Node) -> str:
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def bound(call: Any, arguments: dict[str, Any]) -> Callable[..., Any]:
    return functools.partial(call, **arguments) if arguments else call


def why_not(module: nn.Module, known: dict[type, Any]) -> str:
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
    reason = watched.changed(module)
    return f"{kind.__name__} {reason}" if reason else ""


def why_not_convolution(conv: nn.Module) -> str:
    """Why a convolution cannot be called without its bias, or ""."""
    kind: Any = type(conv)
    if not is_parametrized(conv) or kind.__base__ not in calls.CONVOLUTIONS:
        return why_not(conv, calls.CONVOLUTIONS)
    name = kind.__base__.__name__
    if list(conv.parametrizations) != ["weight"]:  # type: ignore[arg-type]
        return f"the bias of the {name} is parametrized"
    for parametrization in conv.parametrizations["weight"]:  # type: ignore[index]
        if type(parametrization) not in calls.PARAMETRIZATIONS:
            return (
                f"the weight of the {name} is parametrized by {type(parametrization).__name__}; "
                "of those, spectral_norm and weight_norm are fused"
            )
    reason = watched.changed(conv)
    return f"{name} {reason}" if reason else ""
