"""What a pattern is, a place where it is fused, and what the nodes of a graph stand for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import fx, nn

from fastgan import backend as _backend
from fastgan.convolutions import merged


class Pattern(NamedTuple):
    """Something that is found in the graph of a forward, and what runs in its place."""

    kernel: str  # what does the work, by the name that `explain` tells
    find: Callable[[fx.Node, nn.Module], Site | Miss | None]  # at the first node of its steps
    # Of the name of a backend and the operands: the kernel where that computes the same, else the modules themselves.
    # It reads everything from the modules at each call (flags, momentum, eps, slopes, parameters, buffers, hooks), so
    # that `fuse` freezes nothing that can change later. torch.compile can trace all of it without a graph break.
    run: Callable[..., Any]
    composed: bool = False  # of PyTorch's own operations, measured on cpu alone; else an op with kernels of its own
    displaced: str = ""  # part of the name of an operation of PyTorch's that is missing where the kernel runs

    def path(self, device: str, backend: str = "auto") -> str:
        """What runs there: "native", "triton", "PyTorch" for what is composed, or "torch" for the modules."""
        return merged.path(device, backend) if self.composed else _backend.choose(self.kernel, device, backend)

    def why_torch(self, device: str, backend: str) -> str:
        """Why `path` is "torch" there."""
        if _backend.wanted(backend) == "torch":
            return "the backend is torch"
        if self.composed:
            return f"{self.kernel} in place of this convolution was measured on cpu, not on {device}"
        return _backend.library(device).reason or f"the compiled library has no {self.kernel} for {device}"


class Member(NamedTuple):
    """An operand of a fused call: what the module has at this path, a child or a parameter, read at each call."""

    path: str


@dataclass(frozen=True)
class Site:
    """Consecutive steps of a forward, each the only user of the one before, that one call replaces."""

    pattern: Pattern
    path: str  # of the module that the report names
    text: str  # the steps, as the report tells them
    operands: tuple[Any, ...]  # graph nodes, members and constants
    steps: tuple[fx.Node, ...]  # the result takes the place of the first and the users of the last
    conditions: tuple[str, ...]  # of the kernel, else the modules run
    note: str = ""  # why a longer pattern was not found there


@dataclass(frozen=True)
class Miss:
    """Steps that look like a pattern and are left alone."""

    path: str
    text: str
    reason: str


# Conditions that several patterns have.
BATCHED = "with a batch dimension"
UNRECORDED = "not inside torch.func, forward-mode differentiation, torch.jit.trace, torch.export"


def called(node: Any, module: nn.Module) -> nn.Module | None:
    """The child that a step calls."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return module.get_submodule(str(node.target))


def input_of(node: fx.Node) -> Any:
    return node.args[0] if node.args else node.kwargs.get("input")


def sole_input(node: fx.Node) -> Any:
    """What a step is called with, or None where that is not one tensor."""
    return input_of(node) if len(node.args) + len(node.kwargs) == 1 else None


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
