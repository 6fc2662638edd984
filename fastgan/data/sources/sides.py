"""Folders of two sides: which pictures are of A, which of B, and which of them are pairs."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastgan.data.problems import examples
from fastgan.data.sources.parts import TESTING, TRAIN, TRAINING, word_of

_SIDE = re.compile(rf"(?:({'|'.join((*TRAINING, *TESTING))})[ _-]?)?([ab])", re.IGNORECASE)


class Sides(NamedTuple):
    """Paths of the pictures of two sides, relative to a folder."""

    a: list[str]
    b: list[str]
    others: list[str]  # of neither side or another part
    named: bool  # whether folders say which pictures are of which part


class Place(NamedTuple):
    """Where a picture lies: the word that its folder has for a part, "" for none; the side; the path below both."""

    part: str
    side: str
    rest: str


def place_of(path: str) -> Place | None:
    """`A/x.jpg`, `trainA/x.jpg`, `train_A/x.jpg`, `A/train/x.jpg`, `train/A/x.jpg`; None of what lies elsewhere."""
    first, _, rest = path.partition(os.sep)
    second, _, below = rest.partition(os.sep)
    if not rest:
        return None
    if match := _SIDE.fullmatch(first):
        part, side = (match.group(1) or "").lower(), match.group(2).lower()
        if not part and below and _is_part(second):
            return Place(word_of(second), side, below)
        return Place(part, side, rest)
    if below and _is_part(first) and (match := _SIDE.fullmatch(second)) and not match.group(1):
        return Place(word_of(first), match.group(2).lower(), below)
    return None


def sides_of(paths: Sequence[str], part: str | None) -> Sides | None:
    """The two sides of a folder; None where it has none, or other folders beside them.

    part: "train", "test", or None for the training part where folders say it, else for all.
    Raises ValueError where folders say parts, but not that one.
    """
    tops = {path.partition(os.sep)[0] for path in paths if os.sep in path}
    if not all(_SIDE.fullmatch(top) or _is_part(top) for top in tops):
        return None
    places = [place_of(path) for path in paths]
    if {place.side for place in places if place} != {"a", "b"}:
        return None
    if any(place is None and os.sep in path for place, path in zip(places, paths)):
        return None
    named = {place.part for place in places if place and place.part}
    wanted = _wanted(named, part or TRAIN) if named else None
    if named and wanted is None:
        raise ValueError(f"there is no folder of the part {part or TRAIN}, only of {examples(sorted(named))}")
    found = Sides([], [], [], bool(named))
    for path, place in zip(paths, places):
        if place is None or (named and place.part != wanted):
            found.others.append(path)
        else:
            (found.a if place.side == "a" else found.b).append(path)
    return found


def stems_of(paths: Sequence[str], sides: Sides | None) -> list[str]:
    """The stem of each path, by which pairs are matched and parts drawn."""
    of = {path: side for side in ("a", "b") for path in getattr(sides, side)} if sides else {}
    return [stem_of(path, of.get(path, "")) for path in paths]


def stem_of(path: str, side: str = "") -> str:
    """By what a picture is matched: the path below the folders of its side and part, without extension, nor the name of
    its side at the end, as in `trainA/12_A.jpg`."""
    place = place_of(path) if side else None
    stem = os.path.splitext(place.rest if place else path)[0].replace(os.sep, "/")
    stem = unicodedata.normalize("NFC", stem)
    return re.sub(rf"(?<=[^/])[ _-]{side}$", "", stem, flags=re.IGNORECASE) if side else stem


class Matched(NamedTuple):
    a: list[int]  # rows of the pictures of pairs, in the order of a
    b: list[int]
    left_out: list[tuple[str, int]]  # side and row of what has no partner


def matched(a: Sequence[str], b: Sequence[str]) -> Matched:
    """The pairs among stems of two sides. Of several pictures of one stem on a side, the first is taken."""
    first = {stem: row for row, stem in reversed(list(enumerate(b)))}
    found = Matched([], [], [])
    taken: set[str] = set()
    for row, stem in enumerate(a):
        if stem in first and stem not in taken:
            taken.add(stem)
            found.a.append(row)
            found.b.append(first[stem])
        else:
            found.left_out.append(("a", row))
    used = set(found.b)
    found.left_out.extend(("b", row) for row in range(len(b)) if row not in used)
    return found


def _is_part(name: str) -> bool:
    return word_of(name) in (*TRAINING, *TESTING)


def _wanted(named: Iterable[str], part: str) -> str | None:
    """The word of those that the folders have for a part."""
    return next((word for word in (TRAINING if part == TRAIN else TESTING) if word in named), None)
