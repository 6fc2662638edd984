"""The graph of one module's forward with its children as leaves, or the reason why there is none that can be trusted.

torch.fx runs the forward once on stand-ins for the tensors and records what happens to them. What does not touch a
stand-in happens during that one run only: a `with` is dropped, a counter is frozen, a random number is drawn once.
So every Python function is read before it is run, every attribute and global it takes is noted, and the trace is
refused where it could differ from the forward. What it took that can change becomes a condition, tested at each call.
"""

from __future__ import annotations

import enum
import gc
import inspect
import math
import operator
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.graph import inplace_methods

from fastgan.fusion.bytecode import facts
from fastgan.fusion.conditions import Conditions


class Untraceable(Exception):
    """The message says, in a few words, why a forward cannot be rewritten."""


class Traced:
    """A forward as a graph: exact while `conditions` hold and only `arguments`, those without default, are given."""

    def __init__(self, graph: fx.Graph, arguments: tuple[str, ...], conditions: Conditions) -> None:
        self.graph, self.arguments, self.conditions = graph, arguments, conditions
        code = graph.python_code("self")
        self._identity = code.src, code.globals, conditions.identity()

    def same(self, other: Traced) -> bool:
        return self._identity == other._identity


def trace(module: nn.Module, forward: Callable[..., Any]) -> Traced:
    """Traces `forward`, a function of the class of `module`. Raises Untraceable."""
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
    attributes = set(vars(module))
    tracer = _Tracer(module, forward, required)
    try:
        graph = tracer.trace(module)
    except Untraceable:
        raise
    except Exception as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise Untraceable(f"torch.fx cannot trace its forward: {line}") from error
    finally:
        for name in set(vars(module)) - attributes:
            delattr(module, name)
    tracer.audit.aliases(graph)
    return Traced(graph, required, tracer.audit.conditions)


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # a buffer read in the forward is read at each call

    def __init__(self, module: nn.Module, forward: types.FunctionType, required: tuple[str, ...]) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self.forward, self.required = forward, required
        self.audit = _Audit(module, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        def audited(*args: Any) -> Any:
            with self.audit.listening(self.forward):
                return self.forward(*args)

        return audited, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in self.required)]

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
    """What torch.fx's stand-ins leave out: in-place operators stay in place, and no text is made of a stand-in."""

    def __getattr__(self, name: str) -> fx.Proxy:
        return _Attribute(self, name)  # type: ignore[arg-type]

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


_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, enum.Enum, range, slice, torch.dtype, torch.device,
              torch.layout, torch.memory_format)  # fmt: skip
_BUILTINS = {abs, all, any, bool, dict, divmod, enumerate, filter, float, getattr, int, iter, len, list, map, max, min,
             next, pow, range, reversed, round, set, slice, sorted, str, sum, super, tuple, zip}  # fmt: skip
# Modules of torch whose functions may be called by a forward: stand-ins go through them, or they walk children.
_TRANSPARENT = ("torch.fx.", "torch.nn.functional", "torch.functional", "torch._jit_internal", "fastgan.fusion.")
_WALKS = {"children", "named_children"}
# Recorded like the functions that torch.overrides lists, which leaves these out.
_ALSO_RECORDED = {F.tanh, F.sigmoid, torch.relu_, F.leaky_relu_, F.elu_, torch.tanh_, torch.sigmoid_, torch.randn_like,
                  torch.rand_like, torch.jit.is_scripting}  # fmt: skip


class _Audit:
    """Reads every function before it runs, and notes every attribute and global that it takes."""

    def __init__(self, module: nn.Module, tracer: _Tracer) -> None:
        self.tracer = tracer
        self.conditions = Conditions()
        self.paths: dict[int, tuple[str, ...]] = {
            id(child): tuple(path.split(".")) if path else () for path, child in module.named_modules()
        }
        self.module = module
        self.codes: dict[int, types.CodeType] = {}  # by id: a code object is slow to hash
        self.nested: dict[int, types.CodeType] = {}
        self.flags: dict[int, Any] = {}

    @contextmanager
    def listening(self, forward: types.FunctionType) -> Iterator[None]:
        # A C profiler (cProfile) cannot be put back by sys.setprofile; a trace function serves as well.
        hook: Any
        old: Any
        hook, old = (sys.setprofile, None) if sys.getprofile() is None else (sys.settrace, sys.gettrace())

        def getattribute(module: nn.Module, name: str) -> Any:
            try:
                value = object.__getattribute__(module, name)
            except AttributeError:
                value = type(module).__getattr__(module, name)
            return self._attribute(module, name, value) if id(sys._getframe(1).f_code) in self.codes else value

        nn.Module.__getattribute__ = getattribute  # type: ignore[method-assign, assignment]
        self.entry = forward.__code__
        collecting = gc.isenabled()
        gc.disable()  # a collection would run callbacks and finalizers in between, which are not the forward's
        hook(self._call)
        try:
            yield
        finally:
            hook(old)
            del nn.Module.__getattribute__
            if collecting:
                gc.enable()

    def _call(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event != "call":
            return
        code, place = frame.f_code, frame.f_globals.get("__name__", "")
        caller = frame.f_back
        from_forward = caller is not None and id(caller.f_code) in self.codes
        if _is_library(place):
            if not from_forward or place.startswith(_TRANSPARENT):
                return
            if place == "torch.nn.modules.container" or (place == "torch.nn.modules.module" and code.co_name in _WALKS):
                self._structure(frame.f_locals.get("self"))
                return
            raise Untraceable(f"its forward calls {place}.{code.co_name}")
        if place.startswith("namedtuple_"):
            return  # the constructor that collections.namedtuple writes
        if not from_forward and code is not self.entry and place.partition(".")[0] in sys.stdlib_module_names:
            return  # torch's own use of the standard library
        self._read(code, frame)

    def _read(self, code: types.CodeType, frame: types.FrameType) -> None:
        """Refuses a function whose run would differ from its trace, before it has run."""
        if id(code) in self.codes:
            return
        found = facts(code)
        if found.refusal:
            raise Untraceable(f"{code.co_name} has {found.refusal}")
        if any(not isinstance(frame.f_locals.get(name), nn.Module) for name in found.modules):
            raise Untraceable(f"{code.co_name} has an `is` on what may be a tensor")
        for chain in found.names:
            self._global(chain, frame)
        if id(code) not in self.nested:  # what a nested function shares with its function was made by the trace itself
            for chain in found.outer:
                if chain[0] != "__class__" and chain[0] in frame.f_locals:
                    self._name(chain, frame.f_locals[chain[0]], None)
        self.codes[id(code)] = code
        self.nested.update((id(c), c) for c in code.co_consts if isinstance(c, types.CodeType))

    def _global(self, chain: tuple[str, ...], frame: types.FrameType) -> None:
        space = frame.f_globals
        if chain[0] in space:
            owner = sys.modules.get(space.get("__name__", ""))
            self._name(chain, space[chain[0]], owner if owner is not None and vars(owner) is space else None)
        elif chain[0] in frame.f_builtins:
            value = frame.f_builtins[chain[0]]
            if not (value in _BUILTINS or (isinstance(value, type) and issubclass(value, BaseException))):
                raise Untraceable(f"{frame.f_code.co_name} uses {chain[0]}")

    def _name(self, chain: tuple[str, ...], value: Any, owner: types.ModuleType | None) -> None:
        """Judges what a name outside the function stands for, with the attributes taken from it."""
        taken, fixed = 1, False
        for attribute in chain[1:]:
            if not isinstance(value, (types.ModuleType, type)) or not hasattr(value, attribute):
                break
            fixed = fixed or (isinstance(value, types.ModuleType) and _is_library(value.__name__)) or value is math
            value, taken = getattr(value, attribute), taken + 1
        name = ".".join(chain[:taken])
        if isinstance(value, types.ModuleType):
            allowed = _is_library(value.__name__)
        elif isinstance(value, type):
            named = issubclass(value, tuple) and hasattr(value, "_fields")
            allowed = named or issubclass(value, (nn.Module, Tensor, BaseException, enum.Enum))
        elif _is_constant(value) and fixed:
            allowed = not isinstance(value, bool)  # torch.float32, but not torch.backends.cudnn.benchmark
        elif _is_constant(value):
            allowed = owner is not None
            if owner is not None:
                self.conditions.constant(owner, chain[:taken], value)
        else:
            allowed = _is_function(value)
        if not allowed:
            raise Untraceable(f"its forward uses {name}, which torch.fx cannot record")

    def _attribute(self, owner: nn.Module, name: str, value: Any) -> Any:
        """Notes an attribute of a module that the forward reads, and returns what the forward is to see."""
        path = self.paths.get(id(owner))
        if path is None:
            raise Untraceable(f"its forward reads .{name} of a {type(owner).__name__} that is not its own")
        if name == "training":  # read at each call, like a buffer
            if id(owner) not in self.flags:
                self.flags[id(owner)] = self.tracer.create_proxy("get_attr", ".".join((*path, name)), (), {})
            return self.flags[id(owner)]
        if isinstance(value, nn.Module):
            self.conditions.present(path, "_modules", owner._modules)
        elif isinstance(value, fx.Proxy):
            self.conditions.present(path, "_parameters", owner._parameters)
            self.conditions.present(path, "_buffers", owner._buffers)
        elif _is_constant(value):
            if not isinstance(inspect.getattr_static(type(owner), name, None), property):
                self.conditions.attribute(path, name, value)
        elif isinstance(value, types.MethodType) and value.__self__ in (owner, type(owner)):
            pass  # read when it is called
        elif _is_function(value):
            self.conditions.attribute(path, name, value)
        else:
            raise Untraceable(f"its forward reads self.{name}, a {type(value).__name__}, which a trace would freeze")
        return value

    def _structure(self, container: Any) -> None:
        """Notes the children of a container that the forward walks. A slice of one is made anew and not noted."""
        if id(container) in self.paths:
            self.conditions.children(self.paths[id(container)], tuple(container._modules))

    def aliases(self, graph: fx.Graph) -> None:
        """A module or parameter under two names is traced under one: they must go on being the same."""
        names: dict[int, list[tuple[tuple[str, ...], str, str]]] = {}
        for child in self.module.modules():
            for kind in ("_modules", "_parameters", "_buffers"):
                for name, value in getattr(child, kind).items():
                    if value is not None:
                        names.setdefault(id(value), []).append((self.paths[id(child)], kind, name))
        for node in graph.nodes:
            if node.op in ("call_module", "get_attr"):
                value = operator.attrgetter(node.target)(self.module)
                if len(same := names.get(id(value), ())) > 1:
                    self.conditions.identical(same)


def _is_library(name: str) -> bool:
    return name == "torch" or name.startswith(("torch.", "fastgan.fusion"))


def _is_constant(value: Any) -> bool:
    if isinstance(value, (tuple, frozenset)):
        return all(map(_is_constant, value))
    return isinstance(value, _CONSTANTS)


def _is_function(value: Any) -> bool:
    """Whether a call is recorded (PyTorch's functions of tensors), read before it runs (Python's) or pure (math)."""
    if isinstance(value, types.FunctionType):
        place = value.__globals__.get("__name__", "")
        if not _is_library(place) or (place == "torch.fx._symbolic_trace" and hasattr(value, "__wrapped__")):
            return True  # the latter: the user's, marked with torch.fx.wrap
    if isinstance(value, types.BuiltinFunctionType) and value.__module__ == math.__name__:
        return True
    try:
        return value in _ALSO_RECORDED or value in torch.overrides.get_testing_overrides()
    except TypeError:  # not hashable
        return False
