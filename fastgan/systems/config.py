"""Configurations are frozen dataclasses; this turns what a user wrote into one, or says what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], owner: str) -> T:
    """An instance of the dataclass `cls` from `values`; whole numbers become floats and lists tuples where asked.

    `owner` names the dataclass in errors ("system dcgan"). An unknown key raises ValueError with the nearest keys,
    a value of the wrong type TypeError.
    """
    hints = typing.get_type_hints(cls)
    accepted = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in accepted:
            raise ValueError(f"{owner} has no option {key!r}{nearest(key, accepted)}. Accepted: {', '.join(accepted)}")
    return cls(**{key: _convert(value, hints[key], f"{owner}: {key}") for key, value in values.items()})


def nearest(word: str, known: Iterable[str]) -> str:
    """ " (did you mean a or b?)", or nothing where no known word comes near."""
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(matches)}?)" if matches else ""


def refuse(config: Any, reason: str, *options: str) -> None:
    """ValueError where one of these options, which the system inherits but has no use for, was given."""
    for field in dataclasses.fields(config):
        if field.name in options and getattr(config, field.name) != field.default:
            raise ValueError(f"{field.name} has no part here: {reason}. Leave it at {field.default!r}")


def _convert(value: Any, hint: Any, what: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, tuple | list) and len(value) == len(arguments):
        return tuple(_convert(item, argument, what) for item, argument in zip(value, arguments))
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        *first, last = [argument for argument in arguments if argument is not type(None)]
        for argument in first:
            with contextlib.suppress(TypeError):
                return _convert(value, argument, what)
        return _convert(value, last, what)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is an int to Python, but width=True is a mistake.
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise TypeError(f"{what} must be {_describe(hint)}, not {value!r}")


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"{len(typing.get_args(hint))} values ({', '.join(_describe(part) for part in typing.get_args(hint))})"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_describe(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is dict:
        return "a mapping of names to values"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    return names.get(hint, str(hint))
