"""Arguments of a command from the fields of a dataclass of options."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Iterable
from functools import partial
from typing import Any

from fastgan.options import Option, text
from fastgan.options.values import read


def add_options(parser: Any, known: Iterable[Option], *, defaults: bool = True) -> None:
    """An argument for each: --its-name VALUE, or --its-name and --no-its-name where it is yes or no.

    A value that is not of the option's type stays text, so that `fastgan.options.build` says what is wrong.
    defaults: say them.
    """
    for each in known:
        said = f" (default: {text(each.default)})" if defaults and each.default != "" else ""
        meaning = (each.help if _switch(each) else each.meaning) + said
        parser.add_argument(flag(each), dest=each.name, help=meaning.replace("%", "%%"), **_kind(each))


def flag(option: Option) -> str:
    return option.flag or f"--{option.name.replace('_', '-')}"


def _kind(option: Option) -> dict[str, Any]:
    return {"action": argparse.BooleanOptionalAction} if _switch(option) else {"type": partial(read, hint=option.hint)}


def _switch(option: Option) -> bool:
    return bool in (option.hint, *typing.get_args(option.hint))
