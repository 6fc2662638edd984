"""`heads`: rendered heads, each bare and made up, with the exact truth; `eyes`: rendered eyes with known gaze.

They are drawn by fastgan.data.faces when they are first asked for, and kept in the user's cache. Row i of a part
follows from its number alone. No person is in both parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from fastgan.data.drawn import Rows as Row
from fastgan.data.drawn import cached
from fastgan.data.faces import look, paint, person, scene
from fastgan.data.fields import Field, check_wanted
from fastgan.data.images import ImageData
from fastgan.data.size import Size
from fastgan.data.source import Apart, Source, Tensors, Together
from fastgan.data.sources.parts import TRAIN

VERSION = 1  # of the pictures: another one is drawn anew
SIDE = 128
EYE_SIDE = 64
ROWS = {"train": 1000, "test": 200}
SEEDS = {"train": 0, "test": 1}
REGIONS = ("lips", "lids", "cheeks")
DOMAINS = {"a": "source", "b": "reference"}


class Heads:
    """Rows of a bare person, another one made up, and the truths; or bare and made-up pictures as two domains."""

    def __init__(self, rows: Together) -> None:
        self.rows = rows
        self.name = rows.name

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fields(self) -> dict[str, Field]:
        return {**self.rows.fields, **{name: self.rows.fields[of] for name, of in DOMAINS.items()}}

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return self.rows.groups

    @property
    def parts(self) -> tuple[Together]:
        """As it is where nobody says what is wanted."""
        return (self.rows,)

    def adapted(self, wanted: Mapping[str, Field]) -> Source:
        """Domains where `a` or `b` are wanted, rows else. ValueError for what there is not, and for both at once."""
        check_wanted(self.name, self.fields, wanted)
        if not set(wanted) & set(DOMAINS):
            return self.rows.adapted(wanted)
        if mixed := set(wanted) - set(DOMAINS):
            raise ValueError(f"{self.name} has domains (a, b) or rows ({', '.join(self.rows.fields)}), not a or b with "
                             f"{', '.join(sorted(mixed))}")  # fmt: skip
        pictures = self.rows.adapted({DOMAINS[name]: field for name, field in wanted.items()}).tensors
        half = (len(self) + 1) // 2  # of other people each
        rows = {"a": slice(half), "b": slice(half, None)}
        sides = []
        for name in wanted:
            images = ImageData(pictures[DOMAINS[name]][rows[name]], name=name)
            sides.append(Together(f"{self.name}, {name}", {name: (images, "image")}))
        return Apart(self.name, sides)

    def resize(self, resolution: Size, fit: str = "crop") -> Heads:
        return Heads(self.rows.resize(resolution, fit))

    def with_channels(self, channels: int) -> Heads:
        return Heads(self.rows.with_channels(channels))


def heads(part: str) -> Heads:
    """`source` a bare person, `reference` another one made up, `target` the first with that make-up, `bare` the second
    without: (3, 128, 128) each; `lips`, `lids`, `cheeks` (1, 128, 128), white where make-up of `target` can be."""
    drawn = _cached(f"heads-{part}", partial(head, SEEDS[part]), ROWS[part])
    return Heads(rows_of(_name("heads", part), drawn))


def rows_of(name: str, drawn: Row) -> Together:
    """The rows of what `head` has drawn of successive numbers: the reference of each is the next person."""
    fields = {"source": drawn["bare"], "reference": drawn["own"].roll(-1, 0), "target": drawn["next"],
              "bare": drawn["bare"].roll(-1, 0)}  # fmt: skip
    fields |= {region: drawn["regions"][:, i : i + 1].contiguous() for i, region in enumerate(REGIONS)}
    return Together(name, {key: (ImageData(values, name=key), "image") for key, values in fields.items()})


def head(seed: int, number: int, count: int, side: int = SIDE) -> Row:
    """One person of `count`: `bare`, made up as `own` and as the `next` one is (3, side, side), and `regions`."""
    random = np.random.default_rng([seed, number])
    who, where = person(random), scene(random)
    looks = [look(np.random.default_rng([seed, i % count, 1])) for i in (number, number + 1)]
    pictures, regions = paint(who, where, [None, *looks], side)
    return {**dict(zip(("bare", "own", "next"), pictures)), "regions": regions}


def eyes(part: str) -> Together:
    """`image` (3, 64, 64), one eye; `vector` (2,), where it looks: the parts of the unit vector of its gaze to the
    picture's right and upwards."""
    drawn = _cached(f"eyes-{part}", partial(eye, SEEDS[part]), ROWS[part])
    name = _name("eyes", part)
    images = ImageData(drawn["image"], name="eyes")
    gaze = Tensors("gaze", {"vector": drawn["vector"]})
    return Together(name, {"image": (images, "image"), "vector": (gaze, "vector")})


def eye(seed: int, number: int, count: int, side: int = EYE_SIDE) -> Row:
    """One of them."""
    random = np.random.default_rng([seed, number, 2])
    who, where = person(random), scene(random, turned=0.25)
    pictures, _ = paint(who, where, [None], side, eye=1 + number % 2)
    return {"image": pictures[0], "vector": where.looking()[:2]}


def _name(name: str, part: str) -> str:
    return name if part == TRAIN else f"{name}@{part}"


def _cached(what: str, draw: Callable[[int, int], Row], count: int) -> Row:
    """`count` rows of `draw(number, count)`."""
    return cached(f"{what}-{count}-{VERSION}", lambda: _drawn(what, draw, count))


def _drawn(what: str, draw: Callable[[int, int], Row], count: int) -> Row:
    from tqdm import tqdm

    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        drawn = pool.map(lambda number: draw(number, count), range(count))
        rows = list(tqdm(drawn, f"drawing {what}, once", count, unit="rows"))
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
