"""What can be done with each module of a network: found before anything is changed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from fastgan.fusion.capture.shadows import Shadows, Untraceable
from fastgan.fusion.capture.tracing import Traced, trace
from fastgan.fusion.classes import fused, fused_below, unfused, watches_subclasses
from fastgan.fusion.patterns import registry
from fastgan.fusion.patterns.pattern import Miss, Site


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


class Plans:
    """A plan for every module under `root`, in order, whose forward may hold a pattern. Changes nothing."""

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self._shadows = functools.cache(functools.partial(Shadows, root))
        modules = [entry for entry in reachable(root) if entry[2] or _may_hold_pattern(entry[1])]
        self._plans = [Plan(path, module, reason=reason) for path, module, reason in modules]
        visited = [plan for plan in self._plans if not plan.reason]
        examine(self._plans, self._shadows)
        # Of forwards, by the id of the module.
        self._graphs = {id(plan.module): None if plan.reason else plan.graph for plan in visited}

    def __iter__(self) -> Iterator[Plan]:
        return iter(self._plans)

    def graph(self, module: nn.Module) -> fx.Graph | None:
        """That of the forward of a module under `root`, also of one that holds no pattern, or that is left alone with
        all that is in it; None where there is none that can be trusted. Before anything is fused."""
        if id(module) not in self._graphs:
            plan = Plan("", module)
            if _is_traceable(module):
                examine([plan], self._shadows)
            self._graphs[id(module)] = None if plan.reason else plan.graph
        return self._graphs[id(module)]


def reachable(root: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every module under `root` with its path; for one that is left alone with all that is in it, which is left out,
    the reason."""
    closed: tuple[str, ...] = ()
    for path, module in root.named_modules():
        if path.startswith(closed):
            continue
        if reason := _closed(module):
            closed += (f"{path}." if path else "",)
        yield path, module, reason


def examine(chosen: list[Plan], shadows: Callable[[], Shadows]) -> None:
    """Fills in plans, as if no module were fused. Changes nothing.

    shadows: of the network that the modules are part of, asked where one is to be traced.
    """
    for plan in chosen:
        plan.reason = plan.reason or _left_alone(plan.module)
    if all(plan.reason for plan in chosen):
        return
    for training in (True, False):
        shadows().train(training)
        for plan in chosen:
            if not plan.reason:
                _trace(plan, shadows())
    for plan in chosen:
        if plan.graph is not None and not plan.reason:
            plan.found = registry.find(plan.graph, plan.module)


def _may_hold_pattern(module: nn.Module) -> bool:
    if unfused(type(module)).forward is nn.Sequential.forward:
        return any(isinstance(child, registry.ANCHORS) for child in module.children())
    return _is_traceable(module) and any(
        isinstance(child, registry.ANCHORS) for child in module.modules() if child is not module
    )


def _is_traceable(module: nn.Module) -> bool:
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
