"""Two sides of a data set: pairs where their pictures are called alike and pairs are wanted, else two domains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from fastgan.data.fields import Field, LazyFields
from fastgan.data.problems import examples, printable
from fastgan.data.size import Size
from fastgan.data.source import Apart, Source, Together
from fastgan.data.sources.files import Files
from fastgan.data.sources.names import TO
from fastgan.data.sources.sides import matched

PAIRS, DOMAINS = ("source", "target"), ("a", "b")
LEAST = 2  # pictures of a domain


class TwoSides:
    """`a` and `b`, sources with the field `image`: what it is follows from the fields that are wanted of it.

    source, target: those pictures of a and b whose stems agree, as pairs; a is the source.   a, b: domains.
    Only files have names by which they are pairs.
    """

    def __init__(self, name: str, a: Any, b: Any) -> None:
        self.name = name
        self.a, self.b = a, b

    def __len__(self) -> int:
        """Rows of the longest part, as it is without `adapted`."""
        return max(map(len, self.parts))

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        sides = (self.a, self.b)
        names = (*PAIRS, *DOMAINS) if self._rows.a else DOMAINS
        return LazyFields({name: _image_of(sides[number % 2]) for number, name in enumerate(names)})

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return tuple(group for part in self.parts for group in part.groups)

    @cached_property
    def parts(self) -> Sequence[Any]:
        """As it is where nobody says what is wanted: pairs where there are any, else domains."""
        return (self.pairs(),) if self._rows.a else self.domains().parts

    def adapted(self, wanted: Mapping[str, Field]) -> Source:
        """Pairs where `source` or `target` are wanted, domains where `a` or `b` are. ValueError for anything else."""
        if wanted and set(wanted) <= set(PAIRS):
            return self.pairs().adapted(wanted)
        if wanted and set(wanted) <= set(DOMAINS):
            return self.domains().adapted(wanted)
        raise ValueError(
            f"{printable(self.name)} has pairs ({', '.join(PAIRS)}) or domains ({', '.join(DOMAINS)}), not "
            f"{', '.join(wanted) or 'nothing'}"
        )

    def part(self, part: str) -> TwoSides:
        """The part "train" or "test" of both sides. Pairs stay together."""
        a, b = self.a.part(part), self.b.part(part)
        return TwoSides(f"{a.name}{TO}{b.name}" if TO in self.name else f"{self.name}@{part}", a, b)

    def domains(self) -> Apart:
        """Two groups, `a` and `b`. Raises ValueError for a domain of one picture."""
        for name, side in zip(DOMAINS, (self.a, self.b)):
            if hasattr(side, "__len__") and len(side) < LEAST:
                raise ValueError(
                    f"{printable(self.name)}: the domain {name} has {len(side)} picture: give each domain {LEAST} or "
                    f"more"
                )
        sides = zip(DOMAINS, (self.a, self.b))
        return Apart(self.name, [Together(f"{self.name}, {name}", {name: (side, "image")}) for name, side in sides])

    def pairs(self) -> Together:
        """One group, `source` and `target`. What has no partner is left out. Raises ValueError if nothing has one."""
        rows = self._rows
        if not rows.a:
            raise self.unmatched()
        a, b = self.a.take(rows.a), self.b.take(rows.b)
        if rows.left_out:
            a.remarks = [
                *a.remarks,
                f"{printable(self.name)}: {len(rows.left_out)} of {len(self.a) + len(self.b)} pictures have no partner "
                f"and are left out: {self._examples(rows.left_out)}",
            ]
        return Together(self.name, {"source": (a, "image"), "target": (b, "image")})

    def unmatched(self) -> ValueError:
        """The error for two sides of which nothing is a pair."""
        if not self._rows.left_out:
            return ValueError(f"{printable(self.name)}: pairs are told from the names of files: give two folders")
        return ValueError(
            f"{printable(self.name)}: no picture of the one side is called like one of the other, such as "
            f"{self._examples(self._rows.left_out)}: pairs have the same path below their folders, extension aside"
        )

    def resize(self, resolution: Size, fit: str = "crop") -> TwoSides:
        return TwoSides(self.name, self.a.resize(resolution, fit), self.b.resize(resolution, fit))

    def with_channels(self, channels: int) -> TwoSides:
        return self._each("with_channels", channels)

    def with_white(self, white: int) -> TwoSides:
        return self._each("with_white", white)

    def _each(self, change: str, value: int) -> TwoSides:
        return TwoSides(self.name, *(getattr(side, change)(value) for side in (self.a, self.b)))

    @cached_property
    def _rows(self) -> Any:
        return matched(*(side.stems if isinstance(side, Files) else () for side in (self.a, self.b)))

    def _examples(self, left_out: Sequence[tuple[str, int]]) -> str:
        """Of both sides, the first of each in turn."""
        by_side = [[side.picture_name(row) for name, row in left_out if name == key]
                   for key, side in zip(DOMAINS, (self.a, self.b))]  # fmt: skip
        turns = [names[i] for i in range(max(map(len, by_side))) for names in by_side if i < len(names)]
        return examples(turns)


def _image_of(source: Any) -> Callable[[], Field]:
    return lambda: source.fields["image"]
