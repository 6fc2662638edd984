"""The forward of a fused module, as code: that of a plan, with calls of kernels where patterns were found."""

from __future__ import annotations

import linecache
import zlib
from collections.abc import Callable
from typing import Any

from torch import fx

from fastgan.fusion.classes import unfused
from fastgan.fusion.patterns.pattern import Member
from fastgan.fusion.plans import Plan

Source = tuple[str, dict[str, Any]]  # of a forward, and its namespace
Rewritten = tuple[Callable[..., Any], Callable[[Any], bool]]  # a forward, and whether it applies to a module


def source(plan: Plan, backend: str) -> Source:
    """What the forward of the module of a plan becomes. The plan's graph is used up."""
    return (_sequential_source if plan.traced is None else _traced_source)(plan, backend)


def forward(plan: Plan, source: Source) -> Rewritten:
    """The function, which runs the forward of the class where the rewritten one does not apply."""
    return (_sequential_forward if plan.traced is None else _traced_forward)(plan, *source)


def _sequential_source(plan: Plan, backend: str) -> Source:
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


def _sequential_forward(plan: Plan, source: str, space: dict[str, Any]) -> Rewritten:
    length = len(plan.module._modules)
    return _compile(source, space, plan), lambda self: len(self._modules) == length


def _traced_source(plan: Plan, backend: str) -> Source:
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


def _traced_forward(plan: Plan, source: str, space: dict[str, Any]) -> Rewritten:
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
