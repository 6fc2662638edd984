"""Pictures of any size through a system that translates: brought to sizes that go in, in tiles where they are large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.data.pictures import to_uint8
from fastgan.runs.resizing import PLACED, brought, resized
from fastgan.systems import Translator

LARGE = 1024 * 1024  # pixels of what goes in, from which on it goes in tiles, where the system can
TILE = 512  # pixels a side of a tile, unless asked for


def translated(
    system: Translator,
    image: Tensor,
    direction: str | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    tile: int | None = None,
    pixels: bool = False,
) -> Tensor:
    """One picture, (1, C, H, W) in [-1, 1], translated: (1, C', scale H, scale W) on the CPU, in [-1, 1].

    inputs: what the system takes beside it, by name; masks and hints as large as the picture, a reference of any size
        that the system takes.
    tile: pixels a side of the tiles it goes in; 0: whole; None: in tiles from 2^20 pixels on. A system that looks at
    the whole picture (`Translator.halo` is None) takes it whole.
    pixels: give uint8 instead, which takes a quarter of the memory.

    A side that is no multiple of what the system takes is continued by reflection, and cut again afterwards. Where only
    one size goes in, the picture is resized to it, and the result back. ValueError for a picture that is too small, a
    tile for a system that takes whole pictures, and what `Translator.check` refuses.
    """
    made: Tensor | None = None
    for rows, columns, values in _pieces(system, image, direction, dict(inputs or {}), tile):
        part = to_uint8(values) if pixels else values
        if made is None:  # with channels last in memory, as files of pictures are
            height, width = (side * system.scale for side in image.shape[2:])
            made = part.new_empty(1, height, width, part.shape[1]).permute(0, 3, 1, 2)
        made[..., rows, columns] = part
    assert made is not None
    return made


class Piece(NamedTuple):
    """A part of a result, and where it lies in it."""

    rows: slice
    columns: slice
    values: Tensor  # (1, C', height, width) in [-1, 1], on the CPU


def _pieces(
    system: Translator, image: Tensor, direction: str | None, inputs: dict[str, Tensor], tile: int | None
) -> Iterator[Piece]:
    """What `translated` puts together, tile by tile. Errors as there."""
    height, width = image.shape[2:]
    if tile and system.halo is None:
        raise ValueError(f"{system.name} looks at the whole picture, so that it cannot go in tiles: leave tile out")
    multiple, scale = system.multiple, system.scale
    whole = slice(0, height * scale), slice(0, width * scale)
    if system.fixed is not None:
        small, placed = brought(image, inputs, system.fixed)
        others = {n: resized(x, system.fixed) if n not in PLACED else x for n, x in placed.items()}
        made = system.translate(small, direction, **others).cpu()
        yield Piece(*whole, system.restored(image.cpu(), resized(_clamped(made), (whole[0].stop, whole[1].stop))))
        return
    fewest = _up(system.least, multiple) - multiple + 1
    if min(height, width) < fewest:
        raise ValueError(f"{system.name} takes pictures with sides of at least {fewest} pixels, not {width}x{height}")
    image, inputs = _continued(image, multiple), {
        n: _continued(x, multiple) if n in PLACED else x for n, x in inputs.items()
    }  # fmt: skip
    if system.halo is None or tile == 0 or (tile is None and height * width < LARGE):
        made = system.translate(image, direction, **inputs)
        yield Piece(*whole, _clamped(made[:, :, whole[0], whole[1]]))
        return
    # Each tile with as much around it as it looks at, of which the middle is kept: the same as of the whole.
    halo = _up(system.halo, multiple)
    step = max(_up(tile or TILE, multiple), _up(system.least, multiple))
    for rows, row_window in _windows(image.shape[2], step, halo, system.least):
        for columns, column_window in _windows(image.shape[3], step, halo, system.least):
            part = (..., row_window, column_window)
            beside = {n: x[part] if n in PLACED else x for n, x in inputs.items()}
            made = system.translate(image[part], direction, **beside)
            rows_of, columns_of = (
                _scaled(slice(own.start, min(own.stop, side)), scale)
                for own, side in ((rows, height), (columns, width))
            )
            top, left = (rows.start - row_window.start) * scale, (columns.start - column_window.start) * scale
            middle = made[
                ..., top : top + rows_of.stop - rows_of.start, left : left + columns_of.stop - columns_of.start
            ]
            yield Piece(rows_of, columns_of, _clamped(middle))


def _windows(length: int, step: int, halo: int, least: int) -> Iterator[tuple[slice, slice]]:
    """Parts of `length` pixels, and each with its surroundings."""
    for start in range(0, length, step):
        stop = min(start + step, length)
        first = max(0, min(start - halo, length - least))
        yield slice(start, stop), slice(first, min(stop + halo, length))


def _scaled(part: slice, scale: int) -> slice:
    return slice(part.start * scale, part.stop * scale)


def _up(value: int, multiple: int) -> int:
    return value + -value % multiple


def _continued(image: Tensor, multiple: int) -> Tensor:
    """Larger at the bottom and the right, so that its sides are multiples."""
    down, right = (-side % multiple for side in image.shape[2:])
    if not (down or right):
        return image
    enough = down < image.shape[2] and right < image.shape[3]
    return F.pad(image, (0, right, 0, down), mode="reflect" if enough else "replicate")


def _clamped(images: Tensor) -> Tensor:
    return torch.clamp(images, -1, 1).cpu()
