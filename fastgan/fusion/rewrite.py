"""How a module is fused: it gets a subclass of its own class whose forward calls ops where patterns were found.

The object stays itself, as with torch.nn.utils.parametrize, so its attributes, methods, submodules, parameters, hooks
and the references to it survive. The forward of its class stays beside the rewritten one and runs wherever that
would not be the same: other arguments, changed children, changed settings.
"""

from __future__ import annotations

import copyreg
import functools
import threading
import weakref
from collections.abc import Hashable
from typing import Any

from torch import nn

from fastgan.fusion import codegen
from fastgan.fusion.capture.shadows import Shadows
from fastgan.fusion.classes import MARK, Fused, fused, unfused
from fastgan.fusion.patterns.activations import Functional
from fastgan.fusion.plans import Plan, Plans, examine, reachable


def apply(plan: Plan, backend: str) -> None:
    """Makes the module of a plan a fused one. Modules of one class that are fused alike stay of one class."""
    base, places = unfused(type(plan.module)), frozenset((site.path, len(site.steps)) for site in plan.sites)
    source = codegen.source(plan, backend)
    conditions = plan.traced and (plan.traced.arguments, plan.traced.conditions.identity())
    identity = _identity((base, base.forward, backend, places, source, conditions))
    with _making:
        kind = _classes.get(identity)
        if kind is None:
            forward, holds = codegen.forward(plan, source)
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


def undo_others(plans: Plans) -> None:
    """Gives every module of a network its class back but for those that the plans fuse anew, and those that are left
    alone as they are."""
    anew = {id(plan.module) for plan in plans if plan.sites}
    for _, module, reason in list(reachable(plans.root)):
        if not reason and id(module) not in anew:
            undo(module)


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


# Pickles name this function and `_unpickled`, here.
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
        examine([plan], functools.partial(Shadows, self))
        if plan.sites:
            apply(plan, backend)

    return _Kind(_subclass(base, {"__setstate__": __setstate__}))
