"""What must still hold of a module for the trace of its forward to be its forward."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

Path = tuple[str, ...]  # the names of modules, from the outermost one


class Conditions:
    """Collects tests and compiles them into one function, since they run at every call."""

    def __init__(self) -> None:
        self._tests: dict[str, None] = {}
        self._values: list[Any] = []

    def attribute(self, path: Path, name: str, value: Any) -> None:
        """An attribute of the module at `path` is what it was."""
        read = f"{_module(path)}.{name}" if name.isidentifier() else f"getattr({_module(path)}, {name!r})"
        self._equal(read, value)

    def constant(self, owner: types.ModuleType, names: Sequence[str], value: Any) -> None:
        """A global of a Python module, or an attribute of one, is what it was."""
        self._equal(".".join((self._value(owner), *names)), value)

    def children(self, path: Path, names: tuple[str, ...]) -> None:
        """The children of the module at `path` have these names."""
        self._equal(f"tuple({_module(path)}._modules)", names)

    def present(self, path: Path, kind: str, members: dict[str, Any]) -> None:
        """The same ones of the children, parameters or buffers of the module at `path` are None."""
        held = f"{_module(path)}.{kind}"
        absent = [name for name, value in members.items() if value is None]
        if kind == "_modules" and not absent:
            self._add(f"None not in {held}.values()")  # the quicker test; tensors would be compared with None
        else:
            self._add(f"[k for k, v in {held}.items() if v is None] == {absent!r}")

    def identical(self, places: Sequence[tuple[Path, str, str]]) -> None:
        """Children, parameters or buffers with these names are one object."""
        reads = [f"{_module(path)}.{kind}[{name!r}]" for path, kind, name in places]
        self._add(" is ".join(reads))

    def identity(self) -> tuple[Any, ...]:
        return tuple(self._tests), tuple(self._values)

    def compile(self) -> Callable[[Any], bool] | None:
        """A function of the module that tells whether all hold; None where there is nothing to test."""
        if not self._tests:
            return None
        source = f"""def hold(self):
    try:
        return {" and ".join(self._tests)}
    except (AttributeError, KeyError):
        return False
"""
        space: dict[str, Any] = {"same": _same, **{f"v{i}": value for i, value in enumerate(self._values)}}
        exec(source, space)
        return space["hold"]

    def _equal(self, read: str, value: Any) -> None:
        if value is None or value is True or value is False:
            self._add(f"{read} is {value}")
        else:
            self._add(f"same({read}, {self._value(value)})")

    def _add(self, test: str) -> None:
        self._tests[test] = None

    def _value(self, value: Any) -> str:
        for i, known in enumerate(self._values):
            if _same(known, value):
                return f"v{i}"
        self._values.append(value)
        return f"v{len(self._values) - 1}"


def _module(path: Path) -> str:
    return "self" + "".join(f"._modules[{name!r}]" for name in path)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and bool(a == b))
