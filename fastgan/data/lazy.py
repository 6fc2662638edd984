"""A data set of pictures that are decoded when they are asked for."""

import copy
from collections.abc import Iterable, Sequence
from functools import cached_property
from statistics import median
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fastgan.data.decode import LEAST_PART, Unusable, decode, probe, quiet
from fastgan.data.images import check_channels, check_positive_int
from fastgan.data.problems import Note, printable

PROBED = 32  # pictures whose headers tell the shape of a data set
IN_A_ROW = 1000  # pictures that cannot be used, before the data set is given up


class Pictures:
    """What the data sets of picture files have in common, map-style or streams.

    classes: the names of the classes, or empty.   captions: one text a picture, or empty, as for a stream.
    resolution, channels: of what is given; None is found by probing.
    """

    captions: tuple[str, ...] = ()

    def __init__(self, name: str, classes: Sequence[str], resolution: int | None, channels: int | None) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.remarks: list[str] = []  # on the data set as a whole
        self.left_out: dict[str, int] = {}  # files or pictures that are not among them, by kind
        self._resolution = resolution
        self._channels = channels

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every picture.

        What was not asked for is that of the first readable pictures: the smallest side of them, and three channels if
        any of them is in colour. RuntimeError if none can be read.
        """
        resolution, channels = self._resolution, self._channels
        if resolution is None or channels is None:
            side, colour = self._probed
            resolution, channels = resolution or side, channels or colour
        return channels, resolution, resolution

    @cached_property
    def _probed(self) -> tuple[int, int]:
        found: list[tuple[int, int]] = []
        bad: list[str] = []
        with quiet():
            for name, content in self._first():
                try:
                    if isinstance(content, Unusable):
                        raise content
                    found.append(probe(content))
                except Unusable as reason:
                    bad.append(f"{name}: {reason}")
                finally:
                    if not isinstance(content, (bytes, Unusable)):
                        content.close()
                if len(found) == PROBED or len(bad) == IN_A_ROW:
                    break
        if not found:
            raise unusable(self.name, bad)
        # Tracking pixels and icons among photographs are left out later, and must not decide here.
        usual = median(side for side, _ in found)
        kept = [(side, channels) for side, channels in found if side * LEAST_PART >= usual]
        return min(side for side, _ in kept), max(channels for _, channels in kept)

    def _first(self) -> Iterable[tuple[str, BinaryIO | bytes | Unusable]]:
        """Pictures from the first on: name and content."""
        raise NotImplementedError

    def resize(self, resolution: int) -> Any:
        """The same data set at resolution x resolution: centre square, bicubic, antialiased."""
        check_positive_int("resolution", resolution)
        return self._changed(_resolution=resolution)

    def with_channels(self, channels: int) -> Any:
        """The same data set in grey (1) or RGB (3)."""
        check_channels(channels)
        return self._changed(_channels=channels)

    def _changed(self, **values: int | None) -> Any:
        other = copy.copy(self)
        other.__dict__.pop("shape", None)
        other.__dict__.update(values)
        return other

    def picture(self, name: str, content: BinaryIO | bytes) -> tuple[Tensor, list[Note]]:
        """A picture as (C, H, W) uint8, and what was converted. Raises Unusable."""
        channels, resolution, _ = self.shape
        pixels, converted = decode(content, resolution, channels)
        return torch.from_numpy(pixels).permute(2, 0, 1), [Note(name, kind, False) for kind in converted]


class LazyPictures(Pictures):
    """Map-style: `len`, and `[i]`, which gives (uint8 (C, H, W), label or None).

    A picture that cannot be used is replaced by the next one that can, so item i is the same at every time.
    """

    def __len__(self) -> int:
        raise NotImplementedError

    def _open(self, index: int) -> BinaryIO | bytes:
        """The content of a picture. Raises Unusable."""
        raise NotImplementedError

    def _label(self, index: int) -> int | None:
        raise NotImplementedError

    def picture_name(self, index: int) -> str:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Tensor, int | None]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} pictures, there is no picture {index}")
        with quiet():
            return self.read(index % len(self))[:2]

    def read(self, index: int) -> tuple[Tensor, int | None, list[Note]]:
        """Picture and label, and what is to be said about it. RuntimeError if a thousand in a row cannot be used."""
        notes: list[Note] = []
        for step in range(min(len(self), IN_A_ROW)):
            i = (index + step) % len(self)
            name = printable(self.picture_name(i))
            try:
                content = self._open(i)
                try:
                    image, converted = self.picture(name, content)
                finally:
                    if not isinstance(content, bytes):
                        content.close()
            except Unusable as reason:
                notes.append(Note(name, str(reason), True))
                continue
            return image, self._label(i), notes + converted
        raise unusable(self.name, [f"{note.picture}: {note.kind}" for note in notes])

    def _first(self) -> Iterable[tuple[str, BinaryIO | bytes | Unusable]]:
        for i in range(len(self)):
            try:
                content: BinaryIO | bytes | Unusable = self._open(i)
            except Unusable as reason:
                content = reason
            yield printable(self.picture_name(i)), content


def unusable(name: str, bad: Sequence[str]) -> RuntimeError:
    """The error for a data set without a usable picture."""
    return RuntimeError(
        f"{printable(name)}: none of {len(bad)} pictures in a row can be used, such as {'; '.join(bad[:3]) or 'none'}"
    )
