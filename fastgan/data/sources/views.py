"""What a folder can be beside pictures: pairs, domains, rows of several pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastgan.data.decode import Half
from fastgan.data.fields import Field, listed
from fastgan.data.problems import examples, printable
from fastgan.data.source import Apart, Source, Together
from fastgan.data.sources.names import HALVES, SIDES
from fastgan.data.sources.sides import Sides
from fastgan.data.sources.two_sides import DOMAINS, PAIRS, TwoSides

if TYPE_CHECKING:
    from fastgan.data.folder import Folder

LAYOUTS = (
    "folders A and B, or trainA and trainB, whose pictures are called alike in both; a metadata.csv with the columns "
    "source_file_name and target_file_name; pictures of two halves, twice as wide as high; or two folders, --data A "
    '--target B (in Python: fastgan.data.load("A", target="B"))'
)
TEXTS = "NAME.txt beside a picture NAME.jpg; a metadata.csv with the columns file_name and text"


def views_of(folder: Folder) -> Iterator[Source]:
    """What the folder can be. The headers of its pictures are read last, and only where names tell nothing."""
    if folder.source in SIDES and not folder.sides:
        raise ValueError(f"{printable(folder.name)} has no sides A and B of which {folder.source} could be the source")
    if folder.sides:
        yield _two_sides(folder, folder.sides)
    if folder.columns:
        yield _of_columns(folder)
    if folder.source in HALVES or (not folder.sides and folder.survey.side_by_side()):
        yield from _halves(folder)


def lacking(folder: Folder, wanted: Mapping[str, Field]) -> ValueError:
    """The error for a folder that is not what is wanted: what it has, and how it would have it."""
    have = folder.fields
    if folder.sides and {*wanted} <= {*PAIRS}:
        return _two_sides(folder, folder.sides).unmatched()
    how = [f"pairs and domains are told from {LAYOUTS}"] if {*wanted} & {*PAIRS, *DOMAINS} else []
    how += [f"texts from {TEXTS}"] if "text" in wanted else []
    how += ["classes from folders, root/CLASS/NAME.jpg"] if "label" in wanted else []
    missing = ", ".join(field for field in wanted if field not in have) or "all of that at once"
    return ValueError(
        f"{printable(folder.name)} has no {missing}; it has {listed(have)}" + "".join(f"; {line}" for line in how)
    )


def _two_sides(folder: Folder, sides: Sides) -> TwoSides:
    a, b = (folder.files(paths, side=side) for side, paths in zip(DOMAINS, sides[:2]))
    if folder.asked and not sides.named:
        a, b = (side.part(folder.asked) for side in (a, b))
    a.remarks = list(folder.scanned)
    if sides.others:
        a.remarks.append(
            f"{printable(folder.name)}: taken are {len(a)} pictures of the one side and {len(b)} of the other, left "
            f"out {len(sides.others)} of other parts or of neither: {examples(sides.others)}"
        )
    return TwoSides(folder.name, *((b, a) if folder.source == "B" else (a, b)))


def _of_columns(folder: Folder) -> Together:
    labels, texts = folder.of_rows
    files = {name: folder.files(paths, labels=labels, texts=texts) for name, paths in folder.columns.items()}
    first = next(iter(files.values()))
    first.remarks = list(folder.remarks)
    return Together(folder.name, {name: (of.only("image"), "image") for name, of in files.items()} | _beside(first))


def _halves(folder: Folder) -> Iterator[Source]:
    order = HALVES[::-1] if folder.source == "right" else HALVES
    halves = [folder.half(Half(side, exact=folder.source is None)) for side in order]
    pairs = {name: (half, "image") for name, half in zip(PAIRS, halves)}
    yield Together(folder.name, pairs | _beside(folder))
    yield Apart(folder.name, [Together(folder.name, {name: (half, "image")}) for name, half in zip(DOMAINS, halves)])


def _beside(files: Any) -> dict[str, tuple[Any, str]]:
    """What belongs to each picture, to be drawn with the pictures of its row."""
    names: Sequence[str] = [name for name in ("label", "text") if files.has(name)]
    return {name: (files.only(name), name) for name in names}
