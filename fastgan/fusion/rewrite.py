"""How a module is fused: it gets a subclass of its own class whose forward calls ops where patterns were found.

The object stays itself, as with torch.nn.utils.parametrize, so its attributes, methods, submodules, parameters, hooks
and the references to it survive. The forward of its class stays beside the rewritten one and runs wherever that
would not be the same: other arguments, changed children, changed settings.
"""

from __future__ import annotations

import copyreg
import functools
import linecache
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from fastgan.fusion.capture.shadows import MARK, Shadows, unfused, watches_subclasses
from fastgan.fusion.capture.tracing import Traced, Untraceable, trace
from fastgan.fusion.patterns import registry
from fastgan.fusion.patterns.activations import Functional
from fastgan.fusion.patterns.pattern import Member, Miss, Site

_Rewritten = tuple[Callable[..., Any], Callable[[Any], bool]]  # a forward, and whether it applies to a module
_Source = tuple[str, dict[str, Any]]  # of a forward, and its namespace


class Fused(NamedTuple):
    """What a fused class is."""

    backend: str
    places: frozenset[tuple[str, int]]  # the paths of its sites, and how many steps each has
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
    chosen: list[Plan] = []
    for path, module, reason in _open(root):
        if reason or _may_hold_pattern(module):
            chosen.append(Plan(path, module, reason=reason))
    examine(root, chosen)
    return chosen


def _open(root: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every module under `root` with its path; for one that is left alone with all that is in it, which is left out,
    the reason."""
    closed: tuple[str, ...] = ()
    for path, module in root.named_modules():
        if path.startswith(closed):
            continue
        if reason := _closed(module):
            closed += (f"{path}." if path else "",)
        yield path, module, reason


def examine(root: nn.Module, chosen: list[Plan]) -> None:
    """Fills in plans for modules under `root`, as if none were fused. Changes nothing."""
    for plan in chosen:
        plan.reason = plan.reason or _left_alone(plan.module)
    if all(plan.reason for plan in chosen):
        return
    shadows = Shadows(root)
    for training in (True, False):
        shadows.train(training)
        for plan in chosen:
            if not plan.reason:
                _trace(plan, shadows)
    for plan in chosen:
        if plan.graph is not None and not plan.reason:
            plan.found = registry.find(plan.graph, plan.module)


def apply(plan: Plan, backend: str) -> None:
    """Makes the module of a plan a fused one. Modules of one class that are fused alike stay of one class."""
    base, places = unfused(type(plan.module)), frozenset((site.path, len(site.steps)) for site in plan.sites)
    source = (_sequential_source if plan.traced is None else _traced_source)(plan, backend)
    conditions = plan.traced and (plan.traced.arguments, plan.traced.conditions.identity())
    identity = _identity((base, base.forward, backend, places, source, conditions))
    with _making:
        kind = _classes.get(identity)
        if kind is None:
            forward, holds = (_sequential_forward if plan.traced is None else _traced_forward)(plan, *source)
            mark = Fused(backend, places, holds)
            kind = _subclass(base, {MARK: mark, "forward": functools.wraps(base.forward)(forward)})
            _classes[identity] = kind
    plan.module.__class__ = kind


_making = threading.Lock()
_classes: weakref.WeakValueDictionary[Any, type] = weakref.WeakValueDictionary()  # fused ones by what makes them


def _identity(value: Any) -> Any:
    """Something hashable, the same for values that may stand for each other; 1, 1.0 and True may not."""
    if isinstance(value, dict):
        return tuple((name, _identity(v)) for name, v in sorted(value.items()))
    if isinstance(value, (tuple, list)):
        return type(value), tuple(map(_identity, value))
    if isinstance(value, frozenset):
        return frozenset(map(_identity, value))
    if type(value) is Functional:
        return Functional, _identity(vars(value))
    if type(value) is functools.partial:
        return functools.partial, value.func, _identity(value.args), _identity(value.keywords)
    if type(value) in (bool, int, float, complex, slice):
        return type(value), repr(value)
    return type(value), value if isinstance(value, Hashable) else id(value)


def undo(module: nn.Module) -> None:
    """Gives `module` its class back, if it is fused."""
    if fused(module):
        module.__class__ = unfused(type(module))


def undo_others(root: nn.Module, chosen: list[Plan]) -> None:
    """Gives every module under `root` its class back but for those that `chosen` fuses anew, and those that are left
    alone as they are."""
    anew = {id(plan.module) for plan in chosen if plan.sites}
    for _, module, reason in list(_open(root)):
        if not reason and id(module) not in anew:
            undo(module)


def fused(module: nn.Module) -> Fused | None:
    """How `module` is fused, or None."""
    return vars(type(module)).get(MARK)


def fused_below(module: nn.Module) -> bool:
    """Whether something else made a subclass of a fused class and gave it to `module`."""
    return not fused(module) and any(MARK in vars(kind) for kind in type(module).__mro__)


def _may_hold_pattern(module: nn.Module) -> bool:
    if unfused(type(module)).forward is nn.Sequential.forward:
        return any(isinstance(child, registry.ANCHORS) for child in module.children())
    return is_traceable(module) and any(
        isinstance(child, registry.ANCHORS) for child in module.modules() if child is not module
    )


def is_traceable(module: nn.Module) -> bool:
    """Whether the forward of a module is one of a user's, or that of nn.Sequential."""
    forward = getattr(unfused(type(module)), "forward", None)  # a TorchScript module has none
    if forward is None or forward is nn.Sequential.forward:
        return forward is not None
    return not (getattr(forward, "__module__", None) or "").startswith(("torch.", "fastgan.nn."))


def _closed(module: nn.Module) -> str:
    """Why a module is left alone with all that is in it, or ""."""
    if isinstance(module, torch.jit.ScriptModule):
        return "a TorchScript module; fuse before torch.jit.script"
    dynamo, fsdp = (sys.modules.get(name) for name in ("torch._dynamo.eval_frame", "torch.distributed.fsdp"))
    if module._compiled_call_impl is not None or (dynamo is not None and isinstance(module, dynamo.OptimizedModule)):
        what, remedy = "already compiled", "torch.compile"
    elif fsdp is not None and isinstance(module, fsdp.FullyShardedDataParallel):
        what, remedy = "sharded by FSDP", "it is wrapped in FullyShardedDataParallel"
    else:
        return ""
    if any(fused(child) for child in module.modules()):
        return f"it is {what}; what was fused in it before stays so"
    return f"it is {what}; fuse before {remedy}"


def _left_alone(module: nn.Module) -> str:
    """Why the forward of a module is not rewritten, or ""."""
    kind = unfused(type(module))
    if "forward" in vars(module) and not fused(module):
        return "its forward was replaced on the object"
    if fused_below(module):
        return "it was fused and then given another class; what was fused in it stays so"
    if is_parametrized(module):
        return "it is parametrized"
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and isinstance(module, getattr(fsdp, "FSDPModule", ())):
        return "it is sharded by FSDP; fuse before fully_shard"
    if reason := watches_subclasses(kind):
        return reason
    own = [vars(k) for k in kind.__mro__ if k is not object]
    if any(n in names for names in own for n in ("__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__")):
        return "it has its own way of pickling"
    return ""


def _trace(plan: Plan, shadows: Shadows) -> None:
    module = plan.module
    forward = unfused(type(module)).forward
    if forward is nn.Sequential.forward:
        if type(module).__iter__ is not nn.Sequential.__iter__:  # type: ignore[attr-defined]
            plan.reason = "it iterates in its own way"
        elif None in module._modules.values():
            plan.reason = "one of its children is None"
        else:
            plan.graph = _chain(module)
        return
    try:
        traced = trace(module, forward, shadows)
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


def _sequential_source(plan: Plan, backend: str) -> _Source:
    """nn.Sequential.forward with the fused calls."""
    assert plan.graph is not None
    base = unfused(type(plan.module))
    names = {name: f"m{i}" for i, name in enumerate(plan.module._modules)}
    space: dict[str, Any] = {"base": base, "original": base.forward}
    by_step = {step: site for site in plan.sites for step in site.steps}
    lines = []
    for node in plan.graph.nodes:
        site = by_step.get(node)
        if site is not None and node is site.steps[0]:
            operands = (backend, *site.operands)
            words = [
                names[o.path] if isinstance(o, Member) else "input" if isinstance(o, fx.Node) else _name(space, o)
                for o in operands
            ]
            lines.append(f"input = {_name(space, site.pattern.run)}({', '.join(words)})")
        elif site is None and node.op == "call_module":
            lines.append(f"input = {names[str(node.target)]}(input)")
    source = f"""def forward(self, input):
    if len(self._modules) != {len(names)} or base.forward is not original:
        return base.forward(self, input)
    {", ".join(names.values())}, = self._modules.values()
    {(chr(10) + "    ").join(lines)}
    return input
"""
    return source, space


def _sequential_forward(plan: Plan, source: str, space: dict[str, Any]) -> _Rewritten:
    length = len(plan.module._modules)
    return _compile(source, space, plan), lambda self: len(self._modules) == length


def _traced_source(plan: Plan, backend: str) -> _Source:
    """The graph with the fused calls as a function."""
    assert plan.graph is not None
    graph = plan.graph
    space: dict[str, Any] = {}
    results: dict[fx.Node, fx.Node] = {}  # last step of a site -> its fused call

    def operand(value: Any) -> Any:
        if isinstance(value, Member):
            return graph.get_attr(value.path)
        if isinstance(value, fx.Node):
            return results.get(value, value)
        return _Word(_name(space, value))

    for site in plan.sites:
        last = site.steps[-1]
        with graph.inserting_before(site.steps[0]):
            operands = tuple(operand(value) for value in (backend, *site.operands))
            results[last] = graph.call_function(site.pattern.run, operands)
        last.replace_all_uses_with(results[last])
        for step in reversed(site.steps):
            graph.erase_node(step)
    code = graph.python_code("self")
    source = code.src[code.src.index("def forward(") :]  # without the lines for tracing it again
    return source, code.globals | space


def _traced_forward(plan: Plan, source: str, space: dict[str, Any]) -> _Rewritten:
    """The function, before which is tested that it is the forward of the class."""
    assert plan.traced is not None
    rewritten = _compile(source, space, plan)
    base, hold, arguments = unfused(type(plan.module)), plan.traced.conditions.compile(), plan.traced.arguments
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
    kind: Any = next(k for k in type(self).__mro__ if MARK in vars(k))
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
        return _unpickled, (unfused(self.kind), vars(self.kind)[MARK].backend)


def _unpickled(base: type, backend: str) -> _Kind:
    """A class whose objects become fused ones of `base` when they get their state, children first."""

    def __setstate__(self: Any, state: Any) -> None:
        self.__class__ = base
        self.__setstate__(state)
        plan = Plan("", self)
        examine(self, [plan])
        if plan.sites:
            apply(plan, backend)

    return _Kind(_subclass(base, {"__setstate__": __setstate__}))
