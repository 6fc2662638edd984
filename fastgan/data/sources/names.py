"""Names of data sets that say more than a path: which part, which side is the source, and two folders at once."""

from __future__ import annotations

import os
from typing import NamedTuple

from fastgan.data.sources.parts import PARTS

TO = "=>"  # between two sources: A=>B
HALVES = ("left", "right")
SIDES = ("A", "B")


class Name(NamedTuple):
    """`path:source@part`: a path or a name, which of its halves or sides is the source, and a part of it."""

    path: str
    source: str | None = None
    part: str | None = None

    def __str__(self) -> str:
        return f"{self.path}{f':{self.source}' if self.source else ''}{f'@{self.part}' if self.part else ''}"


def parsed(text: str) -> Name:
    """What a name says. A path that is there is taken as it is, whatever it ends in; `hf:` has its own `@SPLIT`."""
    if os.path.exists(text) or text.startswith(("hf:", "hf-stream:")):
        return Name(text)
    part = source = None
    before, at, after = text.rpartition("@")
    if at and after in PARTS:
        text, part = before, after
    before, colon, after = text.rpartition(":")
    if colon and not os.path.exists(text) and after in (*HALVES, *SIDES):
        text, source = before, after
    return Name(text, source, part)


def two(text: str) -> tuple[str, str] | None:
    """The two names of `A=>B`; None of one name. `A=>B@test` is that part of both, as what goes with what of A and B is
    in the same part of them."""
    if TO not in text or os.path.exists(text):
        return None
    first, _, second = text.partition(TO)
    if (part := parsed(second).part) and parsed(first).part is None and not os.path.exists(f"{first}@{part}"):
        first = part_of(first, part)
    return first, second


def part_of(text: str, part: str) -> str:
    """The name of a part of what the name says, of two names that of both, whichever part it says itself. A split of
    `hf:` stays what it is."""
    if sides := two(text):
        return TO.join(part_of(side, part) for side in sides)
    prefix, _, rest = text.partition(":")
    if prefix in ("hf", "hf-stream") and "@" in rest and not os.path.exists(rest):
        return text
    return str(parsed(text)._replace(part=part))


def check_source(source: str) -> None:
    """Raises ValueError unless it says which half or side is the source."""
    if source not in (*HALVES, *SIDES):
        raise ValueError(f"the source of pairs is left or right (of each picture), or A or B (folders), not {source!r}")
