"""The graph of one module's forward with its children as leaves, or the reason why there is none that can be trusted.

torch.fx's stand-ins for tensors record what happens to them; shadows stand in for the modules, and an audit sees to it
that the forward does nothing else.
"""

from __future__ import annotations

import builtins
import gc
import inspect
import operator
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import _symbolic_trace
from torch.fx.graph import inplace_methods

from fastgan.fusion.capture.audit import Audit
from fastgan.fusion.capture.bytecode import unpacked
from fastgan.fusion.capture.conditions import Conditions
from fastgan.fusion.capture.shadows import Shadows, Untraceable

_TRIES = 3  # where the garbage collector ran in between


class Traced:
    """A forward as a graph: exact while `conditions` hold and only `arguments`, those without default, are given."""

    def __init__(self, graph: fx.Graph, arguments: tuple[str, ...], conditions: Conditions) -> None:
        self.graph, self.arguments, self.conditions = graph, arguments, conditions
        code = graph.python_code("self")
        self._identity = code.src, code.globals, conditions.identity()

    def same(self, other: Traced) -> bool:
        return self._identity == other._identity


def trace(module: nn.Module, forward: Callable[..., Any], shadows: Shadows | None = None) -> Traced:
    """Traces `forward`, a function of the class of `module`, which nobody sees. Raises Untraceable.

    shadows: of a network that `module` is part of; by default of itself.
    """
    if not isinstance(forward, types.FunctionType) or hasattr(forward, "__wrapped__"):
        raise Untraceable("its forward is decorated")
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    required = tuple(
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY)
    )
    if any(p.default is p.empty and p.kind == p.KEYWORD_ONLY for p in parameters):
        raise Untraceable("its forward has keyword-only arguments without defaults")
    shadows = shadows or Shadows(module)
    for left in reversed(range(_TRIES)):
        collections = _collections()
        tracer = _Tracer(shadows, shadows.of(module), required)
        try:
            tracer.run(forward)
            break
        except Untraceable:
            # A finalizer that ran in between, whatever it is, looks like a call of the forward's.
            if not left or collections == _collections():
                raise
    tracer.audit.aliases(tracer.graph, module)
    return Traced(tracer.graph, required, tracer.audit.conditions)


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


class _Tracer(fx.Tracer):
    """Runs a forward once on a shadow. Unlike torch.fx's own `trace` it patches nothing that others use."""

    proxy_buffer_attributes = True  # a buffer read in the forward is read at each call

    def __init__(self, shadows: Shadows, module: nn.Module, required: tuple[str, ...]) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self.shadows, self.required = shadows, required
        self.root = module
        self.submodule_paths = {child: path for path, child in module.named_modules()}
        self.tensor_attrs = {}
        self.graph = fx.Graph(tracer_cls=type(self))
        self._copies: dict[int, dict[str, Any]] = {}  # of globals, by the id of these
        self._spaces: dict[int, dict[str, Any]] = {}  # globals, by the id of their copy
        self._parameters: dict[str, fx.Proxy] = {}
        self.audit = Audit(module, lambda path: self.create_proxy("get_attr", path, (), {}), self._spaces)

    def run(self, forward: types.FunctionType) -> None:
        """Fills the graph. Raises Untraceable."""
        arguments = [self.create_proxy("placeholder", name, (), {}) for name in self.required]
        self.shadows.recording.recorder = self
        try:
            with self.audit.listening(forward):
                result = self._with_wrapped(forward)(self.root, *arguments)
            self.create_node("output", "output", (self.create_arg(result),), {})
        except Untraceable:
            raise
        except Exception as error:
            line = (str(error) or type(error).__name__).splitlines()[0]
            raise Untraceable(f"torch.fx cannot trace its forward: {line}") from error
        finally:
            self.shadows.recording.recorder = None
            # Stand-ins hold the tracer, and it them: with a shadow, modules would live until the garbage is collected.
            del self.shadows, self.root, self.submodule_paths

    def listens(self, code: types.CodeType) -> bool:
        return self.audit.listens(code)

    def parameter(self, name: str, value: Tensor) -> Any:
        return self.getattr(name, value, self._parameters)

    def read(self, owner: nn.Module, name: str, value: Any) -> Any:
        value = self.audit.read(owner, name, value)
        if isinstance(value, types.MethodType) and isinstance(value.__func__, types.FunctionType):
            return types.MethodType(self._with_wrapped(value.__func__), value.__self__)
        return value

    def called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.create_proxy("call_module", self.path_of_module(module), args, kwargs)

    def _with_wrapped(self, function: types.FunctionType) -> types.FunctionType:
        """The function, in whose globals what the user marked with torch.fx.wrap is recorded instead of run."""
        space = function.__globals__
        copy = self._copies.get(id(space))
        if copy is None:
            names = [name for owner, name in list(_symbolic_trace._wrapped_fns_to_patch) if owner == id(space)]
            if not names:
                return function
            marked = {name: space.get(name, vars(builtins).get(name)) for name in names}
            wrapped = {name: _symbolic_trace._create_wrapped_func(value) for name, value in marked.items() if value}
            copy = self._copies[id(space)] = space | wrapped
            self._spaces[id(copy)] = space
        code, defaults, closure = function.__code__, function.__defaults__, function.__closure__
        made = types.FunctionType(code, copy, function.__name__, defaults, closure)
        made.__kwdefaults__ = function.__kwdefaults__
        return made

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor):
            raise Untraceable("its forward uses a tensor that is neither a parameter nor a buffer of it")
        if isinstance(a, (dict, list)) and type(a) not in (dict, list):
            raise Untraceable(f"its forward makes a {type(a).__name__}")
        if isinstance(a, tuple) and type(a) is not tuple and not hasattr(a, "_fields"):
            raise Untraceable(f"its forward makes a {type(a).__name__}")
        return super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        node = obj.node
        if node.op == "get_attr" and str(node.target).endswith("training"):
            raise Untraceable("control flow on self.training")
        raise Untraceable("control flow on a tensor, its shape or its properties")

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        raise Untraceable("its forward iterates over a tensor or an argument")

    def keys(self, obj: fx.Proxy) -> Any:
        raise Untraceable("its forward unpacks an argument as keywords")


class _Recorded:
    """What torch.fx's stand-ins leave out: in-place operators stay in place, no text is made of a stand-in, and a
    forward that unpacks one leaves nothing behind."""

    def __getattr__(self, name: str) -> fx.Proxy:
        return _Attribute(self, name)  # type: ignore[arg-type]

    def __iter__(self: Any) -> Iterator[Any]:
        # torch.fx's own holds its frame, and so the network, until the next garbage collection.
        caller = sys._getframe(1)
        count = unpacked(caller.f_code, caller.f_lasti)
        return self.tracer.iter(self) if count is None else (self[i] for i in range(count))

    def __format__(self, spec: str) -> str:
        raise Untraceable("its forward makes text of a tensor")

    def __str__(self) -> str:
        raise Untraceable("its forward makes text of a tensor")


def _in_place(method: str) -> Callable[..., Any]:
    function = getattr(operator, method)

    def apply(left: Any, right: Any) -> Any:
        return function(left, right)

    def record(self: Any, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", apply, (self, other), {})

    apply.__name__ = apply.__qualname__ = f"_{method}"
    globals()[apply.__name__] = apply  # torch.fx's code refers to a function by its module and name
    return record


for _method in inplace_methods.keys() - {"setitem"}:
    setattr(_Recorded, f"__{_method}__", _in_place(_method))


class _Proxy(_Recorded, fx.Proxy):  # type: ignore[misc]
    pass


class _Attribute(_Recorded, fx.proxy.Attribute):  # type: ignore[misc]
    pass
