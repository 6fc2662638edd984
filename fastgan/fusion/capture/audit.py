"""Reads every function that a forward runs before it runs, and notes what it takes from outside.

A trace runs the forward once, on stand-ins. What does not touch a stand-in happens during that one run only: a `with`
is dropped, a counter is frozen, a random number is drawn once. So the trace is refused where it could differ from the
forward, and what it took that can change becomes a condition, tested at each call.
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

from fastgan.fusion.capture.bytecode import facts
from fastgan.fusion.capture.conditions import Conditions
from fastgan.fusion.capture.shadows import Untraceable

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


class Audit:
    """Of one run of a forward on shadows.

    module: the shadow whose forward it is.   flag: gives a stand-in for the flag `training` at a path.
    spaces: the globals of functions that run on a copy of them, by the id of the copy.
    """

    def __init__(self, module: nn.Module, flag: Callable[[str], Any], spaces: dict[int, dict[str, Any]]) -> None:
        self.conditions = Conditions()
        self._flag = flag
        self._spaces = spaces
        self.paths: dict[int, tuple[str, ...]] = {id(child): _parts(path) for path, child in module.named_modules()}
        self.codes: dict[int, types.CodeType] = {}  # by id: a code object is slow to hash
        self.nested: dict[int, types.CodeType] = {}
        self.flags: dict[int, Any] = {}

    def listens(self, code: types.CodeType) -> bool:
        """Whether what this code reads is noted: a function of the forward's, not of PyTorch's."""
        return id(code) in self.codes

    @contextmanager
    def listening(self, forward: types.FunctionType) -> Iterator[None]:
        # Both hooks are this thread's own. A C profiler (cProfile) cannot be put back by sys.setprofile; a trace
        # function serves as well.
        hook: Any
        old: Any
        hook, old = (sys.setprofile, None) if sys.getprofile() is None else (sys.settrace, sys.gettrace())
        self._entry = forward.__code__
        # The garbage collector may run these in between, which are not the forward's.
        self._collectors = {getattr(callback, "__code__", None) for callback in gc.callbacks}
        hook(self._call)
        try:
            yield
        finally:
            hook(old)

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
            if self._aside(frame):
                return
            raise Untraceable(f"its forward calls {place}.{code.co_name}")
        if place.startswith("namedtuple_"):
            return  # the constructor that collections.namedtuple writes
        if not from_forward and code is not self._entry and place.partition(".")[0] in sys.stdlib_module_names:
            return  # torch's own use of the standard library
        if id(code) not in self.codes and not self._aside(frame):
            self._read(code, frame)

    def _aside(self, frame: types.FrameType | None) -> bool:
        """Whether a function runs because some object is destroyed, or all garbage is, not because it was called."""
        while frame is not None and frame.f_code is not self._entry:
            if frame.f_code.co_name == "__del__" or frame.f_code in self._collectors:
                return True
            if frame.f_globals.get("__name__") == "weakref":
                return True
            frame = frame.f_back
        return False

    def _read(self, code: types.CodeType, frame: types.FrameType) -> None:
        """Refuses a function whose run would differ from its trace, before it has run."""
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
        space = self._spaces.get(id(frame.f_globals), frame.f_globals)
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

    def read(self, owner: nn.Module, name: str, value: Any) -> Any:
        """Notes an attribute of a shadow that the forward reads, and returns what the forward is to see."""
        path = self.paths.get(id(owner))
        if path is None:
            raise Untraceable(f"its forward reads .{name} of a {type(owner).__name__} that is not its own")
        if name == "training":  # read at each call, like a buffer
            if id(owner) not in self.flags:
                self.flags[id(owner)] = self._flag(".".join((*path, name)))
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

    def aliases(self, graph: fx.Graph, module: nn.Module) -> None:
        """A child or parameter of `module` under two names is traced under one: they must go on being the same."""
        names: dict[int, list[tuple[tuple[str, ...], str, str]]] = {}
        for path, child in module.named_modules():
            for kind in ("_modules", "_parameters", "_buffers"):
                for name, value in getattr(child, kind).items():
                    if value is not None:
                        names.setdefault(id(value), []).append((_parts(path), kind, name))
        for node in graph.nodes:
            if node.op in ("call_module", "get_attr"):
                value = operator.attrgetter(node.target)(module)
                if len(same := names.get(id(value), ())) > 1:
                    self.conditions.identical(same)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split(".")) if path else ()


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
