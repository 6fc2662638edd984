"""A field of a dataclass that says everything of an option, and the class that checks them."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar

from fastgan.options import values

T = TypeVar("T")
# What a run that goes on may do with it: change it and end as it would have; change it and be another run from there
# on; change it even while the system is at work; or nothing, as there would be nothing to go on with.
OnResume = Literal["free", "differs", "live", "never"]


def option(
    default: T,
    help: str | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    multiple: int | None = None,
    choices: tuple[Any, ...] | None = None,
    parts: tuple[str, ...] | None = None,
    on_resume: OnResume | None = None,
    flag: str | None = None,
) -> T:
    """A field of a frozen dataclass. What a subclass does not say of an option again, it has from its base.

    help: what it means, in a line without a full stop, and what its default does where that is not plain.
    least, most, above, below: bounds, inclusive or not, of each number where it has several. None is always in them.
    multiple: whole numbers that it divides.   choices: all values that it takes.
    parts: the words that it takes, any number of them with commas between.
    flag: of `fastgan train`, where it is not the name with dashes.
    """
    said = {name: value for name, value in locals().items() if name != "default" and value is not None}
    return dataclasses.field(default=default, metadata={"option": said})


@dataclasses.dataclass(frozen=True)
class Option:
    """What is known of one."""

    name: str
    hint: Any  # its type
    default: Any
    help: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    multiple: int | None = None
    choices: tuple[Any, ...] | None = None
    parts: tuple[str, ...] | None = None
    on_resume: OnResume = "never"
    flag: str = ""

    @property
    def range(self) -> str:
        """ "at least 0 and below 1", or nothing"""
        words = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
        return " and ".join(
            f"{word} {values.text(bound)}" for name, word in words.items() if (bound := getattr(self, name)) is not None
        )

    @property
    def meaning(self) -> str:
        """The help, with the values where they can be listed."""
        listed = self.parts or tuple(choice for choice in self.choices or () if not isinstance(choice, bool))
        return (
            f"{self.help} ({'any of ' if self.parts else ''}{', '.join(map(values.text, listed))})"
            if listed
            else self.help
        )

    def checked(self, value: Any) -> Any:
        """The value, of the option's type. TypeError or ValueError where it is not one that the option takes."""
        value = values.converted(value, self.hint, self.name)
        if self.choices is not None and value not in self.choices:
            accepted = ", ".join(map(values.text, self.choices))
            raise ValueError(f"{self.name} must be one of {accepted}, not {self._said(value)}{self._near(value)}")
        if self.parts is not None:
            wrong = [word for word in (word.strip() for word in value.split(",")) if word and word not in self.parts]
            if wrong:
                raise ValueError(
                    f"{self.name} must be any of {', '.join(self.parts)}, with commas between, not {wrong[0]!r}"
                )
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not math.isfinite(number):
                raise ValueError(f"{self.name} must be a finite number, not {number}")
            if not self._in_range(number):
                each = " each" if isinstance(value, tuple) else ""
                raise ValueError(f"{self.name} must{each} be {self.range}, not {values.text(number)}")
            if self.multiple and number % self.multiple:
                raise ValueError(f"{self.name} must be a multiple of {self.multiple}, not {number}")
        return value

    def _in_range(self, number: float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )

    def _said(self, value: Any) -> str:
        return repr(value) if isinstance(value, str) else values.text(value)

    def _near(self, value: Any) -> str:
        if not isinstance(value, int) or isinstance(value, bool):
            return ""
        a, b = sorted(sorted(self.choices or (), key=lambda choice: abs(choice - value))[:2])
        return f"; the nearest are {a} and {b}"


class Options:
    """Of a frozen dataclass that derives from it, every option is of its type and within its bounds, or it is not made:
    TypeError or ValueError. Conditions between options go into its `__post_init__`, after this one.

    It is composed of several such classes, of one family of options each. Their fields come in the order of the bases
    from the last to the first, which is dataclasses'.
    """

    # Families that such a system could have, and why this one has not, for the error.
    without: ClassVar[Mapping[type, str]] = {}

    def __post_init__(self) -> None:
        for each in options(type(self)):
            object.__setattr__(self, each.name, each.checked(getattr(self, each.name)))


def options(cls: type) -> tuple[Option, ...]:
    """Of a dataclass, in order."""
    return _options(cls)


@cache
def _options(cls: type) -> tuple[Option, ...]:
    hints = typing.get_type_hints(cls)
    said: dict[str, dict[str, Any]] = {}
    for base in reversed(cls.__mro__):
        for name, field in vars(base).get("__dataclass_fields__", {}).items():
            said[name] = said.get(name, {}) | field.metadata.get("option", {})
    return tuple(
        Option(field.name, hints[field.name], _default(field), **said[field.name]) for field in dataclasses.fields(cls)
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
