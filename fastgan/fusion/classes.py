"""Fused classes, and how one knows them: subclasses, with a mark, of the classes that modules had before."""

from __future__ import annotations

import abc
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

MARK = "_fastgan_fused"  # in the namespace of a class that was made by fusing: a Fused


class Fused(NamedTuple):
    """What a fused class is."""

    backend: str
    places: frozenset[tuple[str, int]]  # the paths of its sites, and how many steps each has
    holds: Callable[[Any], bool]  # whether a module of it runs the rewritten forward


def fused(module: nn.Module) -> Fused | None:
    """How `module` is fused, or None."""
    return vars(type(module)).get(MARK)


def fused_below(module: nn.Module) -> bool:
    """Whether something else made a subclass of a fused class and gave it to `module`."""
    return not fused(module) and any(MARK in vars(kind) for kind in type(module).__mro__)


def unfused(kind: Any) -> Any:
    """A class as it was before `fuse` made a subclass of it."""
    return kind.__bases__[0] if MARK in vars(kind) else kind


def watches_subclasses(kind: type) -> str:
    """How a class would notice that a subclass of it is made, or ""."""
    if type(kind) not in (type, abc.ABCMeta):
        return f"its class has a metaclass, {type(kind).__name__}"
    if any("__init_subclass__" in vars(k) for k in kind.__mro__ if k not in (object, typing.Generic)):
        return "its class watches its subclasses (__init_subclass__)"
    return ""
