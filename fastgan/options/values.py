"""What a user wrote, as values of the types that options have."""

from __future__ import annotations

import contextlib
import types
import typing
from collections.abc import Mapping
from typing import Any


def read(text: str, hint: Any) -> Any:
    """The value, or the text itself where it is nothing of that type, so that `build` says what is wrong."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() in ("none", "null", "~"):
            return None
        found = [read(text, argument) for argument in arguments if argument is not type(None)]
        return next((value for value in found if not isinstance(value, str)), text)
    if origin is tuple:
        parts = [part.strip() for part in text.strip("()[]").split(",")]
        return tuple(read(part, arguments[0]) for part in parts if part)
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if hint in (int, float):
        with contextlib.suppress(ValueError):
            return hint(text)
    return text


def text(value: Any) -> str:
    """A value as the command line and YAML have it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value > 2**32 and value & (value + 1) == 0:
        return f"2**{value.bit_length()} - 1"
    return ",".join(map(text, value)) if isinstance(value, tuple) else str(value)


def converted(value: Any, hint: Any, name: str) -> Any:
    """The value as one of that type. TypeError where it is none."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is tuple and isinstance(value, tuple | list):
        if arguments[-1] is ...:
            return tuple(converted(item, arguments[0], name) for item in value)
        if len(value) == len(arguments):
            return tuple(converted(item, argument, name) for item, argument in zip(value, arguments))
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        *first, last = [argument for argument in arguments if argument is not type(None)]
        for argument in first:
            with contextlib.suppress(TypeError):
                return converted(value, argument, name)
        return converted(value, last, name)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is an int to Python, but width=True is a mistake.
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise TypeError(f"{name} must be {_described(hint)}, not {value!r}")


def _described(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and arguments[-1] is ...:
        return f"several values ({_described(arguments[0])} each)"
    if origin is tuple:
        return f"{len(arguments)} values ({', '.join(map(_described, arguments))})"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_described, arguments))
    if origin is dict:
        return "a mapping of names to values"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return names.get(hint, str(hint))
