"""From what a user wrote, or a file has, to a dataclass of options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fastgan.options import values
from fastgan.options.fields import options
from fastgan.options.words import known_as, nearest

T = TypeVar("T")


def build(cls: type[T], given: Mapping[str, Any], owner: str) -> T:
    """An instance of the dataclass `cls`; whole numbers become floats and lists tuples where asked.

    `owner` begins errors ("system dcgan") where it is not "". ValueError with the nearest names for an unknown one and
    for a value out of bounds, TypeError for a value of the wrong type.
    """
    values = checked(cls, given, owner)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise _of(owner, error) from None


def checked(cls: type, given: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Values of fields of the dataclass `cls`, each for itself, as `build` has them. Errors as there."""
    known = {each.name: each for each in options(cls)}
    for key in given:
        if key not in known:
            raise no_option(cls, key, owner)
    try:
        return {key: known[key].checked(value) for key, value in given.items()}
    except (TypeError, ValueError) as error:
        raise _of(owner, error) from None


def from_text(cls: type, texts: Mapping[str, str], owner: str) -> dict[str, Any]:
    """Values of fields of the dataclass `cls` from what a command line has of them, as `build` takes them.

    What a field's type takes decides: `none` is text to one that takes text, and nothing to one that may be None.
    Numbers, true and false, none or null, and 0.5,0.9 or [0.5, 0.9] for several. ValueError for an unknown key.
    """
    hints = {each.name: each.hint for each in options(cls)}
    for key in texts:
        if key not in hints:
            raise no_option(cls, key, owner)
    return {key: values.read(value.strip(), hints[key]) for key, value in texts.items()}


def no_option(cls: type, key: str, owner: str) -> ValueError:
    """That the dataclass has no option of that name, with the reason or with the nearest names."""
    names = [each.name for each in options(cls)]
    for family, reason in getattr(cls, "without", {}).items():
        if known_as(key) in family.__dataclass_fields__:
            return ValueError(f"{owner} has no option {key!r}: {reason}. Accepted: {', '.join(names)}")
    return ValueError(f"{owner} has no option {key!r}{nearest(key, names)}. Accepted: {', '.join(names)}")


def former(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, as a file of an earlier version has it, without the options that the dataclass no longer has and that
    had been left at their defaults."""
    unset = {each.name: each.default for family in getattr(cls, "without", {}) for each in options(family)}
    return {
        name: value
        for name, value in given.items()
        if name not in unset or (tuple(value) if isinstance(value, list) else value) != unset[name]
    }


def _of(owner: str, error: Exception) -> Exception:
    return type(error)(f"{owner}: {error}" if owner else str(error))
