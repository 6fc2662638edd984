"""How a module is fused: it gets a subclass of its own class whose forward calls ops where patterns were found.

The object stays itself, as with torch.nn.utils.parametrize, so its attributes, methods, submodules, parameters, hooks
and the references to it survive. The forward of its class stays beside the rewritten one and runs wherever that
would not be the same: other arguments, changed children, changed settings.
"""

from __future__ import annotations

import abc
import copyreg
import functools
import linecache
import sys
import typing
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from fastgan.fusion import patterns
from fastgan.fusion.patterns import Held, Miss, Site
from fastgan.fusion.tracing import Traced, Untraceable, trace

_MARK = "_fastgan_fused"  # in the namespace of a class made here: its Fused
_Rewritten = tuple[Callable[..., Any], Callable[[Any], bool]]  # a forward, and whether it applies to a module


class Fused(NamedTuple):
    """What a fused class is."""

    backend: str
    paths: frozenset[str]  # of its sites
    holds: Callable[[Any], bool]  # whether a module of it runs the rewritten forward


@dataclass
class Plan:
    """What can be done with one module."""

    path: str
    module: nn.Module
    found: list[Site | Miss] = field(default_factory=list)
    reason: str = ""  # why the whole module is left alone
    graph: fx.Graph | None = None
    traced: Traced | None = None  # None for nn.Sequential

    @property
    def sites(self) -> list[Site]:
        return [match for match in self.found if isinstance(match, Site)]


def plans(root: nn.Module) -> list[Plan]:
    """A plan for every module under `root`, in order, whose forward may hold a pattern. Changes nothing."""
    with _unfused(root):
        chosen: list[Plan] = []
        closed: tuple[str, ...] = ()
        for path, module in root.named_modules():
            if path.startswith(closed):
                continue
            if reason := _closed(module):
                closed += (f"{path}." if path else "",)
            elif not _may_hold_pattern(module):
                continue
            chosen.append(Plan(path, module, reason=reason))
        _examine(root, chosen)
        return chosen


def _examine(root: nn.Module, chosen: list[Plan]) -> None:
    """Fills in plans for modules under `root`, of which none is fused at this moment."""
    for plan in chosen:
        plan.reason = plan.reason or _left_alone(plan.module)
    with _training_flags(root) as set_training:
        for training in (True, False):
            set_training(training)
            for plan in chosen:
                if not plan.reason:
                    _trace(plan)
    for plan in chosen:
        if plan.graph is not None and not plan.reason:
            plan.found = patterns.find(plan.graph, plan.module)


def apply(plan: Plan, backend: str) -> None:
    """Makes the module of a plan a fused one."""
    base = type(plan.module)
    forward, holds = (_sequential_forward if plan.traced is None else _traced_forward)(plan, backend)
    mark = Fused(backend, frozenset(site.path for site in plan.sites), holds)
    plan.module.__class__ = _subclass(base, {_MARK: mark, "forward": functools.wraps(base.forward)(forward)})


def undo(module: nn.Module) -> None:
    """Gives `module` its class back, if it is fused."""
    if fused(module):
        module.__class__ = type(module).__bases__[0]


def fused(module: nn.Module) -> Fused | None:
    """How `module` is fused, or None."""
    return vars(type(module)).get(_MARK)


def fused_below(module: nn.Module) -> bool:
    """Whether something else made a subclass of a fused class and gave it to `module`."""
    return not fused(module) and any(_MARK in vars(kind) for kind in type(module).__mro__)


@contextmanager
def _unfused(root: nn.Module) -> Iterator[None]:
    kinds = [(module, type(module)) for module in root.modules() if fused(module)]
    for module, _ in kinds:
        undo(module)
    try:
        yield
    finally:
        for module, kind in kinds:
            module.__class__ = kind


@contextmanager
def _training_flags(root: nn.Module) -> Iterator[Callable[[bool], None]]:
    """Gives a setter of all training flags that runs no train() of the user's, and puts them back."""
    flags = [(vars(module), module.training) for module in root.modules() if "training" in vars(module)]

    def set_training(training: bool) -> None:
        for attributes, _ in flags:
            attributes["training"] = training

    try:
        yield set_training
    finally:
        for attributes, training in flags:
            attributes["training"] = training


def _may_hold_pattern(module: nn.Module) -> bool:
    forward = type(module).forward
    if forward is nn.Sequential.forward:
        return any(isinstance(child, patterns.ANCHORS) for child in module.children())
    if (getattr(forward, "__module__", None) or "").startswith(("torch.", "fastgan.nn.")):
        return False
    return any(isinstance(child, patterns.ANCHORS) for child in module.modules() if child is not module)


def _closed(module: nn.Module) -> str:
    """Why a module is left alone with all that is in it, or ""."""
    if isinstance(module, torch.jit.ScriptModule):
        return "a TorchScript module; fuse before torch.jit.script"
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if module._compiled_call_impl is not None or (dynamo is not None and isinstance(module, dynamo.OptimizedModule)):
        return "already compiled; fuse before torch.compile"
    return ""


def _left_alone(module: nn.Module) -> str:
    """Why the forward of a module is not rewritten, or ""."""
    kind = type(module)
    if "forward" in vars(module):
        return "its forward was replaced on the object"
    if fused_below(module):
        return "it was fused and then given another class; what was fused in it stays so"
    if is_parametrized(module):
        return "it is parametrized"
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and isinstance(module, getattr(fsdp, "FSDPModule", ())):
        return "it is sharded by FSDP; fuse before fully_shard"
    if type(kind) not in (type, abc.ABCMeta):
        return f"its class has a metaclass, {type(kind).__name__}"
    own = [vars(k) for k in kind.__mro__ if k not in (object, typing.Generic)]
    if any("__init_subclass__" in names for names in own):
        return "its class watches its subclasses (__init_subclass__)"
    if any(n in names for names in own for n in ("__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__")):
        return "it has its own way of pickling"
    return ""


def _trace(plan: Plan) -> None:
    module = plan.module
    forward = type(module).forward
    if forward is nn.Sequential.forward:
        if type(module).__iter__ is not nn.Sequential.__iter__:  # type: ignore[attr-defined]
            plan.reason = "it iterates in its own way"
        elif None in module._modules.values():
            plan.reason = "one of its children is None"
        else:
            plan.graph = _chain(module)
        return
    try:
        traced = trace(module, forward)
    except Untraceable as error:
        plan.reason = str(error)
        return
    if plan.traced is not None and not plan.traced.same(traced):
        plan.reason = "its forward differs between train() and eval(), or from one run to the next"
    plan.graph, plan.traced = traced.graph, traced


def _chain(module: nn.Module) -> fx.Graph:
    """The graph of nn.Sequential.forward."""
    graph = fx.Graph()
    value = graph.placeholder("input")
    for name in module._modules:
        value = graph.call_module(name, (value,))
    graph.output(value)
    return graph


def _sequential_forward(plan: Plan, backend: str) -> _Rewritten:
    """nn.Sequential.forward with the fused calls."""
    assert plan.graph is not None
    base = type(plan.module)
    names = {name: f"m{i}" for i, name in enumerate(plan.module._modules)}
    space: dict[str, Any] = {"base": base, "original": base.forward}
    by_step = {step: site for site in plan.sites for step in site.steps}
    lines = []
    for node in plan.graph.nodes:
        site = by_step.get(node)
        if site is not None and node is site.steps[0]:
            operands = (backend, *site.operands)
            words = [
                names[o.path] if isinstance(o, Held) else "input" if isinstance(o, fx.Node) else _name(space, o)
                for o in operands
            ]
            lines.append(f"input = {_name(space, site.call)}({', '.join(words)})")
        elif site is None and node.op == "call_module":
            lines.append(f"input = {names[str(node.target)]}(input)")
    source = f"""def forward(self, input):
    if len(self._modules) != {len(names)} or base.forward is not original:
        return base.forward(self, input)
    {", ".join(names.values())}, = self._modules.values()
    {(chr(10) + "    ").join(lines)}
    return input
"""
    return _compile(source, space, plan), lambda self: len(self._modules) == len(names)


def _traced_forward(plan: Plan, backend: str) -> _Rewritten:
    """The graph with the fused calls as a function, before which is tested that it is the forward of the class."""
    assert plan.graph is not None
    assert plan.traced is not None
    graph, arguments = plan.graph, plan.traced.arguments
    space: dict[str, Any] = {}
    results: dict[fx.Node, fx.Node] = {}  # last step of a site -> its fused call

    def operand(value: Any) -> Any:
        if isinstance(value, Held):
            return graph.get_attr(value.path)
        if isinstance(value, fx.Node):
            return results.get(value, value)
        return _Word(_name(space, value))

    for site in plan.sites:
        last = site.steps[-1]
        with graph.inserting_before(site.steps[0]):
            operands = tuple(operand(value) for value in (backend, *site.operands))
            results[last] = graph.call_function(site.call, operands)
        last.replace_all_uses_with(results[last])
        for step in reversed(site.steps):
            graph.erase_node(step)
    code = graph.python_code("self")
    source = code.src[code.src.index("def forward(") :]  # without the lines for tracing it again
    rewritten = _compile(source, code.globals | space, plan)
    base, hold = type(plan.module), plan.traced.conditions.compile()
    original = base.forward

    def holds(self: Any) -> bool:
        return base.forward is original and (hold is None or hold(self))

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = len(args) + len(kwargs) == len(arguments) and (not kwargs or all(k in arguments for k in kwargs))
        if given and holds(self):
            return rewritten(self, *args, **kwargs)
        return base.forward(self, *args, **kwargs)

    return forward, holds


class _Word:
    """An argument in a graph that torch.fx writes into the code as it is."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __repr__(self) -> str:
        return self.word


def _name(space: dict[str, Any], value: Any) -> str:
    """A name for `value` in the namespace of a rewritten forward."""
    name = f"_fastgan_{len(space)}"
    space[name] = value
    return name


def _compile(source: str, space: dict[str, Any], plan: Plan) -> Callable[..., Any]:
    file = f"<fastgan.fuse {type(plan.module).__name__}.forward {zlib.crc32(source.encode()):08x}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file  # for tracebacks
    exec(compile(source, file, "exec"), space)
    return space["forward"]


def _subclass(base: type, names: dict[str, Any]) -> type:
    """A subclass that looks like its base, by which its objects are pickled."""
    look = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base)(base.__name__, (base,), {**look, "__reduce_ex__": _reduce_ex, **names})


def _reduce_ex(self: Any, protocol: Any) -> Any:
    kind: Any = next(k for k in type(self).__mro__ if _MARK in vars(k))
    make, arguments, *state = super(kind, self).__reduce_ex__(max(protocol, 2))
    if make is copyreg.__newobj__ and arguments == (kind,):  # type: ignore[attr-defined]
        make, arguments = _new, (_Kind(kind),)
    return make, arguments, *state


def _new(kind: _Kind) -> Any:
    return kind.kind.__new__(kind.kind)


class _Kind:
    """A fused class in the state of an object: itself in a copy; in a pickle, its base, to be fused anew."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __deepcopy__(self, memo: dict[int, Any]) -> _Kind:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.kind.__bases__[0], vars(self.kind)[_MARK].backend)


def _unpickled(base: type, backend: str) -> _Kind:
    """A class whose objects become fused ones of `base` when they get their state, children first."""

    def __setstate__(self: Any, state: Any) -> None:
        self.__class__ = base
        self.__setstate__(state)
        plan = Plan("", self)
        with _unfused(self):
            _examine(self, [plan])
        if plan.sites:
            apply(plan, backend)

    return _Kind(_subclass(base, {"__setstate__": __setstate__}))
