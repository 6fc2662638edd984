"""The part of a data set that is kept for the test."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

from fastgan.data.registry import load, settled
from fastgan.data.sources.names import TO, parsed, part_of, two
from fastgan.data.sources.parts import TEST, TRAIN


class Kept(NamedTuple):
    """data: to judge by.   seen: whether a training on the data set of the name has seen them, or some of them."""

    data: Any
    seen: bool


def kept(name: str, white: int | None = None) -> Kept:
    """The test part of what a training has loaded by that name; the whole where there is none.

    Of `A=>B` the parts of both. Errors as of `load` for the name itself.
    """
    sides = two(name) or (name,)
    try:
        data = load(TO.join(part_of(side, TEST) for side in sides), white=white)
        return Kept(data, any(map(_seen, sides)))
    except ValueError:  # too few pictures for two parts, or nothing that has parts
        return Kept(load(name, white=white), True)


def _seen(name: str) -> bool:
    if part_of(name, TEST) == name:
        return True
    if settled(name) or parsed(name).part == TRAIN:
        return False
    with suppress(TypeError):  # a stream has no length
        whole, part = (len(load(each)) for each in (name, part_of(name, TRAIN)))  # type: ignore[arg-type]
        return whole > part
    return False
