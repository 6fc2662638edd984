"""Pictures of any size through a system that translates: brought to sizes that go in, in tiles where they are large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.systems import Translator

LARGE = 1024 * 1024  # pixels of what goes in, from which on it goes in tiles, where the system can
TILE = 512  # pixels a side of a tile, unless asked for
PLACED = ("mask", "hints")  # inputs whose pixels are those of the picture; others, as a reference, stay as they are


def translated(
    system: Translator,
    image: Tensor,
    direction: str | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    tile: int | None = None,
) -> Tensor:
    """One picture, (1, C, H, W) in [-1, 1], translated: (1, C', scale H, scale W) on the CPU, in [-1, 1].

    inputs: what the system takes beside it, by name; masks and hints as large as the picture, a reference of any size
        that the system takes.
    tile: pixels a side of the tiles it goes in; 0: whole; None: in tiles from 2^20 pixels on. A system that looks at
    the whole picture (`Translator.halo` is None) takes it whole.

    A side that is no multiple of what the system takes is continued by reflection, and cut again afterwards. Where only
    one size goes in, the picture is resized to it, and the result back. ValueError for a picture that is too small, a
    tile for a system that takes whole pictures, and what `Translator.check` refuses.
    """
    inputs = dict(inputs or {})
    height, width = image.shape[2:]
    if tile and system.halo is None:
        raise ValueError(f"{system.name} looks at the whole picture, so that it cannot go in tiles: leave tile out")
    if system.fixed is not None:
        image, inputs = (_resized(image, system.fixed), {n: _resized(x, system.fixed, n) for n, x in inputs.items()})
        made = system.translate(image, direction, **inputs)
        return _clamped(_resized(made, (height * system.scale, width * system.scale)))
    if min(height, width) < system.least:
        system.check_size(*(side + -side % system.multiple for side in (height, width)))
    image, inputs = _continued(image, system.multiple), {
        n: _continued(x, system.multiple) if n in PLACED else x for n, x in inputs.items()
    }  # fmt: skip
    if system.halo is None or tile == 0 or (tile is None and height * width < LARGE):
        made = system.translate(image, direction, **inputs)
    else:
        made = _in_tiles(system, image, direction, inputs, tile or TILE)
    return _clamped(made[:, :, : height * system.scale, : width * system.scale])


def _in_tiles(
    system: Translator, image: Tensor, direction: str | None, inputs: Mapping[str, Tensor], tile: int
) -> Tensor:
    """Each tile with as much around it as it looks at, of which the middle is kept: the same as of the whole."""
    multiple, scale = system.multiple, system.scale
    halo = _up(system.halo or 0, multiple)
    step = max(_up(tile, multiple), _up(system.least, multiple))
    height, width = image.shape[2:]
    made: Tensor | None = None
    for rows, row_window in _windows(height, step, halo, system.least):
        for columns, column_window in _windows(width, step, halo, system.least):
            part = (..., row_window, column_window)
            beside = {n: x[part] if n in PLACED else x for n, x in inputs.items()}
            out = system.translate(image[part], direction, **beside).cpu()
            if made is None:
                made = out.new_empty(1, out.shape[1], height * scale, width * scale)
            top, left = rows.start - row_window.start, columns.start - column_window.start
            made[:, :, _scaled(rows, scale), _scaled(columns, scale)] = out[
                :, :, _scaled(slice(top, top + rows.stop - rows.start), scale),
                _scaled(slice(left, left + columns.stop - columns.start), scale),
            ]  # fmt: skip
    assert made is not None
    return made


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


def _resized(image: Tensor, size: tuple[int, int], name: str = "") -> Tensor:
    """A picture by bicubic interpolation; a mask or hints by the nearest pixel."""
    if image.shape[2:] == size:
        return image
    if name in PLACED:
        return F.interpolate(image, size, mode="nearest")
    return F.interpolate(image.float(), size, mode="bicubic", antialias=True).to(image.dtype)


def _clamped(images: Tensor) -> Tensor:
    return torch.clamp(images, -1, 1).cpu()
