"""A data set of pictures that are decoded when they are asked for."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fastgan.data.checks import check_positive_int
from fastgan.data.decode import WHITE, Half, Header, Unusable, brightest, decode, probe, quiet
from fastgan.data.fields import Field, Images, Labels, LazyFields, Texts, check_wanted
from fastgan.data.images import check_channels
from fastgan.data.items import Row
from fastgan.data.problems import Note, printable
from fastgan.data.size import Size, as_size, check_fit
from fastgan.data.sources.captioned import Captioned
from fastgan.data.survey import Survey
from fastgan.data.windows import MIDDLE, Wholes, Windows, cut, windows_of

KINDS = {"image": Images, "label": Labels, "text": Texts}

SURVEYED = 20_000  # pictures whose headers are looked at: about three seconds
LOOKED_AT = 64  # pictures that tell which integer is white
SURVEYORS = 8  # threads that do it
SETTLED = ("_size", "_fit", "_channels", "_white", "_kept")  # what was asked for
IN_A_ROW = 1000  # pictures that cannot be used, before the data set is given up


class Pictures:
    """What the data sets of picture files have in common, map-style or streams.

    classes: the names of the classes, or empty.   captions: one text a picture, or empty, as for a stream.
    resolution, channels: of what is given; None is found by probing.
    """

    captions: Sequence[str] = ()

    def __init__(
        self, name: str, classes: Sequence[str], resolution: Size | None = None, channels: int | None = None
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.remarks: list[str] = []  # on the data set as a whole
        self.left_out: dict[str, int] = {}  # files or pictures that are not among them, by kind
        self._size = None if resolution is None else as_size(resolution)
        self._fit = "crop"
        self._channels = channels
        self._white: int | None = None
        self._half: Half | None = None
        self._kept: tuple[str, ...] | None = None  # the fields that are wanted; None: all
        self._wholes = Wholes()  # decoded, where windows are cut

    @property
    def white(self) -> int | None:
        """Which value is white in pictures of integers of 16 bits or more, whose files do not say so; None: by each."""
        return self._white

    def with_white(self, white: int) -> Any:
        """The same data set, with `white` the value that is, where pictures are of integers of 16 bits or more."""
        check_positive_int("white", white)
        other = self._changed(_white=white)
        other.__dict__.pop("white", None)
        return other

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every picture.

        What was not asked for follows from the headers of all pictures, of up to 20,000 of them evenly chosen, of the
        first 32 of a stream: the side that nineteen of twenty have at least, and three channels if any is in color.
        RuntimeError if none can be read.
        """
        size, channels = self._size, self._channels
        if size is None or channels is None:
            side, color = self.survey.shape()
            size, channels = size or (side, side), channels or color
        return channels, *size

    @property
    def fields(self) -> Mapping[str, Field]:
        """`image`, and `label` where there are classes, `text` where there are captions, as far as `adapted` has left
        them."""
        return LazyFields({name: partial(self.own_field, name) for name in self.own})

    def own_field(self, name: str) -> Field:
        """One of `own`."""
        return Images(*self.shape, self._fit) if name == "image" else Labels(self.classes)

    @property
    def own(self) -> tuple[str, ...]:
        """The fields of its pictures."""
        return tuple(name for name in ("image", "label", "text") if self.has(name))

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return (self.own,)

    def adapted(self, wanted: Mapping[str, Field]) -> Any:
        """The same data set with the wanted fields alone, images of that size and channels."""
        if not wanted or not all(self.has(name) and isinstance(field, KINDS[name]) for name, field in wanted.items()):
            check_wanted(printable(self.name), self.fields, wanted)  # which has to read headers to say what there is
        other = self.only(*wanted)
        if isinstance(images := wanted.get("image"), Images):
            other = other.with_channels(images.channels).resize((images.height, images.width), images.fit)
        return other

    def only(self, *fields: str) -> Any:
        """The same data set with those of its fields alone."""
        return self._changed(_kept=fields)

    def has(self, field: str) -> bool:
        there = {"image": True, "label": bool(self.classes), "text": self.captioned}.get(field, False)
        return there and (self._kept is None or field in self._kept)

    @property
    def captioned(self) -> bool:
        """Whether its pictures have texts."""
        return False

    @cached_property
    def survey(self) -> Survey:
        """The headers, read once. RuntimeError if none can be read."""
        found: list[Header] = []
        bad: list[str] = []
        with quiet():
            for name, header in self._headers():
                if isinstance(header, Unusable):
                    bad.append(f"{name}: {header}")
                else:
                    found.append(header)
        if not found:
            raise unusable(self.name, bad)
        return Survey(found, len(found) + len(bad), self._count())

    def said(self) -> list[str]:
        """A line for each thing that is left out or becomes other than it is, as far as that is known already."""
        if self.white == WHITE and self._white is None:
            scale = [f"{printable(self.name)}: integers of 16 bits, of which {WHITE} is taken for white; or say white"]
        else:
            scale = []
        surveyed = self.survey.lines(printable(self.name), self.shape, self._fit) if "survey" in self.__dict__ else []
        return [*self.remarks, *scale, *surveyed]

    def _headers(self) -> Iterable[tuple[str, Header | Unusable]]:
        """Names and headers of pictures all over the data set."""
        raise NotImplementedError

    def _count(self) -> int:
        """How many pictures there are; 0 where that is not known."""
        return 0

    def resize(self, resolution: Size, fit: str = "crop") -> Any:
        """The same data set at resolution x resolution, or at (height, width): bicubic, antialiased.

        fit: of pictures of another aspect ratio "crop" takes the middle part, "stretch" all of it, "cut" a window
            of that size at full resolution, in batches at random places.
        """
        check_fit(fit)
        return self._changed(_size=as_size(resolution), _fit=fit)

    def with_channels(self, channels: int) -> Any:
        """The same data set in grey (1) or RGB (3)."""
        check_channels(channels)
        return self._changed(_channels=channels)

    def _changed(self, **values: Any) -> Any:
        other = copy.copy(self)
        for told in ("shape", "text_field", "vocabulary", "windows"):
            other.__dict__.pop(told, None)
        other._wholes = Wholes()  # what it decodes may be others, or in other colors
        other.__dict__.update(values)
        return other

    def picture(self, name: str, content: BinaryIO | bytes) -> tuple[Tensor, list[Note]]:
        """A picture as (C, H, W) uint8, and what was converted. Raises Unusable."""
        channels, *size = self.shape
        pixels, converted = decode(content, (size[0], size[1]), channels, self.white, self._fit, self._half)
        return torch.from_numpy(pixels).permute(2, 0, 1), [Note(name, kind, False) for kind in converted]


class Rows:
    """Map-style: `read(index)` gives a row, its values by field, and what is to be said about it.

    A row that cannot be used is replaced by the next one that can, so row i is the same at every time.
    """

    name: str
    fields: Any
    groups: Any

    def __len__(self) -> int:
        raise NotImplementedError

    def row(self, index: int) -> tuple[Row, list[Note]]:
        """The row of that number, not of another. Raises Unusable."""
        raise NotImplementedError

    def picture_name(self, index: int) -> str:
        raise NotImplementedError

    @cached_property
    def windows(self) -> Windows:
        """Of the fields of which windows are cut."""
        return windows_of(printable(self.name), self.fields, self.groups[0])

    def read(self, index: int, place: tuple[int, int] = MIDDLE) -> tuple[Row, list[Note]]:
        """The row, of pictures larger than their windows the part at that place, and what is to be said about it.
        RuntimeError if a thousand in a row cannot be used."""
        notes: list[Note] = []
        for step in range(min(len(self), IN_A_ROW)):
            i = (index + step) % len(self)
            try:
                row, converted = self.row(i)
                row = cut(row, self.windows, place)
            except Unusable as reason:
                notes.append(Note(reason.picture or printable(self.picture_name(i)), str(reason), True))
                continue
            return row, notes + converted
        raise unusable(self.name, [f"{note.picture}: {note.kind}" for note in notes])


class LazyPictures(Captioned, Rows, Pictures):
    """Map-style: `len`, and `[i]`, which gives (uint8 (C, H, W), label or None).

    A picture that cannot be used is replaced by the next one that can, so item i is the same at every time.
    """

    most_surveyed = SURVEYED

    @property
    def captioned(self) -> bool:
        return bool(self.captions)

    def own_field(self, name: str) -> Field:
        return self.text_field if name == "text" else super().own_field(name)

    @property
    def stems(self) -> Sequence[str]:
        return [self.picture_name(row) for row in range(len(self))]

    def renamed(self, name: str, text: Texts | None) -> Any:
        """The same data set by another name, with texts of that field."""
        return self._changed(name=name, text=text)

    def adapted(self, wanted: Mapping[str, Field]) -> Any:
        """The same data set with the wanted fields alone. Where texts are wanted, pictures without are left out."""
        other = super().adapted(wanted)
        if not isinstance(text := wanted.get("text"), Texts):
            return other
        other = other._changed(text=self.wanted_text(text))
        rows, said = self.with_text([self.picture_name(row) for row in range(len(self))])
        if said:
            other = other.take(rows)._changed(remarks=[*self.remarks, said])
        return other

    @cached_property
    def white(self) -> int | None:
        """As asked for, else 65535 where one of 64 pictures, evenly chosen, takes more than half of that; None where
        none is of such integers. ValueError where it is not known: 12 bits in a 16-bit file would be 16 levels."""
        if self._white is not None:
            return self._white
        count = min(len(self), LOOKED_AT)
        with quiet():
            found = [self._brightest(i * len(self) // count) for i in range(count)]
        most = max((value for value in found if value is not None), default=None)
        if most is None or WHITE // 2 < most <= WHITE:
            return most and WHITE
        raise ValueError(
            f"{printable(self.name)}: pictures of integers up to {most}, and nothing says which is white: say it, as "
            f"--white {(1 << max(8, most.bit_length())) - 1} (in Python: fastgan.data.load(..., white=)), {WHITE} if "
            f"they are of 16 bits and dark; or convert them to 8 bits"
        )

    def _brightest(self, index: int) -> int | None:
        try:
            content = self._open(index)
            try:
                return brightest(content)
            finally:
                if not isinstance(content, bytes):
                    content.close()
        except Unusable:  # told when it is its turn
            return None

    def _open(self, index: int) -> BinaryIO | bytes:
        """The content of a picture. Raises Unusable."""
        raise NotImplementedError

    def _label(self, index: int) -> int | None:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Tensor, int | None]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} pictures, there is no picture {index}")
        with quiet():
            return as_item(self.read(index % len(self))[0])

    def row(self, index: int) -> tuple[Row, list[Note]]:
        row: Row = {}
        notes: list[Note] = []
        whole = self._wholes.get(index) if self._fit == "cut" else None
        if whole is not None:
            row["image"], notes = whole
        elif self.has("image"):
            content = self._open(index)
            try:
                picture, notes = self.picture(printable(self.picture_name(index)), content)
            finally:
                if not isinstance(content, bytes):
                    content.close()
            row["image"] = picture
            if self._fit == "cut":
                self._wholes.put(index, picture, notes)
        label = self._label(index) if self.has("label") else None
        if label is not None:
            row["label"] = label
        if self.has("text"):
            row["text"] = self.tokens([index])[0]
        return row, notes

    def _headers(self) -> Iterable[tuple[str, Header | Unusable]]:
        count = min(len(self), self.most_surveyed)
        chosen = [i * len(self) // count for i in range(count)]
        threads = ThreadPoolExecutor(SURVEYORS)  # for the sake of disks that take their time
        try:
            for i, header in zip(chosen, threads.map(self._header, chosen)):
                yield printable(self.picture_name(i)), header
        finally:
            threads.shutdown(cancel_futures=True)

    def _header(self, index: int) -> Header | Unusable:
        return header_of(lambda: self._open(index))

    def _count(self) -> int:
        return len(self)


def as_item(row: Row) -> tuple[Tensor, int | None]:
    """As torchvision's data sets give it."""
    image, label = row["image"], row.get("label")
    assert isinstance(image, Tensor)
    assert not isinstance(label, Tensor)
    return image, label


def header_of(open_picture: Callable[[], BinaryIO | bytes], half: Half | None = None) -> Header | Unusable:
    try:
        content = open_picture()
        try:
            return probe(content, half)
        finally:
            if not isinstance(content, bytes):
                content.close()
    except Unusable as reason:
        return reason


def unusable(name: str, bad: Sequence[str]) -> RuntimeError:
    """The error for a data set without a usable picture."""
    return RuntimeError(
        f"{printable(name)}: none of {len(bad)} pictures in a row can be used, such as {'; '.join(bad[:3]) or 'none'}"
    )
