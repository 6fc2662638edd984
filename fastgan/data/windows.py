"""Windows cut from pictures at their full resolution, at one place a row, so that pairs stay pairs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastgan.data.decode import Unusable
from fastgan.data.fields import Field, Images
from fastgan.data.items import Row

BITS = 31  # of a place: integers, so that every device cuts at the same pixel
MIDDLE = (1 << (BITS - 1), 1 << (BITS - 1))
KEPT = 256 << 20  # bytes of whole pictures that a process keeps decoded

Windows = Mapping[str, tuple[int, int]]  # (height, width), by field


def windows_of(name: str, fields: Mapping[str, Field], group: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The windows of the fields that are drawn together. ValueError where they differ, or some are cut and others made
    smaller: their pictures would show different parts."""
    images = {key: field for key in group if isinstance(field := fields[key], Images)}
    cut = {key: (field.height, field.width) for key, field in images.items() if field.fit == "cut"}
    if cut and (len(cut) < len(images) or len({*cut.values()}) > 1):
        said = ", ".join(f"{key} {field.width}x{field.height} by {field.fit}" for key, field in images.items())
        raise ValueError(f'{name}: where windows are cut (fit="cut"), all of a row must be of one size, not {said}')
    return cut


def cut(row: Row, windows: Windows, place: tuple[int, int] = MIDDLE) -> Row:
    """The row with the window at that place, as a part of 2**31 of the way down and to the right, of each picture.

    Raises Unusable for pictures of different size: the places would not be the same.
    """
    if not windows:
        return row
    wholes: dict[str, Any] = {name: row[name] for name in windows}
    if len(sizes := {tuple(image.shape[1:]) for image in wholes.values()}) > 1:
        said = " and ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise Unusable(f"windows of one place need pictures of one size, not {said}")
    at = {name: cut_all(image[None], windows[name], torch.tensor([place]))[0] for name, image in wholes.items()}
    return {**row, **at}


def cut_all(images: Tensor, window: tuple[int, int], places: Tensor) -> Tensor:
    """Of each of (B, C, H, W) the window, (B, C, *window), at its place (B, 2) in 0..2**31 - 1."""
    top, left = (_offset(places[:, i], images.shape[2 + i] - window[i] + 1) for i in (0, 1))
    if len(images) == 1:
        y, x = int(top), int(left)
        return images[:, :, y : y + window[0], x : x + window[1]].clone()
    return cropped(images, torch.stack([top, left], 1), *window)


def _offset(places: Tensor, room: int) -> Tensor:
    return (places * room) >> BITS


def cropped(images: Tensor, shifts: Tensor, height: int, width: int) -> Tensor:
    """Of each of (B, C, H, W) the part (B, C, height, width) that begins at its (B, 2) shift."""
    rows = shifts[:, :1] + torch.arange(height, device=images.device)
    columns = shifts[:, 1:] + torch.arange(width, device=images.device)
    each = torch.arange(len(images), device=images.device)[:, None, None]
    return images.movedim(1, 3)[each, rows[:, :, None], columns[:, None]].movedim(3, 1)


class Wholes:
    """The pictures decoded last, up to a number of bytes; a copy in another process begins empty."""

    def __init__(self, most: int = KEPT) -> None:
        self.most, self.bytes = most, 0
        self._rows: OrderedDict[int, tuple[Tensor, Any]] = OrderedDict()

    def get(self, index: int) -> tuple[Tensor, Any] | None:
        if index in self._rows:
            self._rows.move_to_end(index)
        return self._rows.get(index)

    def put(self, index: int, picture: Tensor, notes: Any) -> None:
        self._rows[index] = picture, notes
        self.bytes += picture.nbytes
        while self.bytes > self.most:
            _, (oldest, _) = self._rows.popitem(last=False)
            self.bytes -= oldest.nbytes

    def __reduce__(self) -> Any:
        return Wholes, (self.most,)
