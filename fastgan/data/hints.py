"""Hints of colors for colorization: from points, from a file of points, or from the opaque pixels of a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SIZE = 3  # pixels a side of a hint whose size is not said
PICTURES = (".png", ".webp")
LINE = "x y #rrggbb [size]"


def hints_of(points: Iterable[Sequence[Any]], height: int, width: int) -> Tensor:
    """Points (x, y, color) or (x, y, color, size) -> (1, 4, height, width): red, green, blue in [-1, 1] and 1 where a
    hint is, else zeros. Of hints that overlap, the last one counts.

    x, y: column and row of the middle.   color: "#rrggbb".   size: pixels a side of the square, cut at the border.
    ValueError for a point outside the picture, and for a color or a size that is none.
    """
    hints = torch.zeros(1, 4, height, width)
    for point in points:
        if len(point) not in (3, 4):
            raise ValueError(f"a hint is {LINE}, not {point!r}")
        x, y = _whole(point[0], "x"), _whole(point[1], "y")
        size = _whole(point[3], "size") if len(point) == 4 else SIZE
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"hints must lie in the picture of {width}x{height} pixels, not at {x}, {y}")
        if size < 1:
            raise ValueError(f"the size of a hint must be at least 1, not {size}")
        top, left = y - (size - 1) // 2, x - (size - 1) // 2
        rows, columns = slice(max(0, top), top + size), slice(max(0, left), left + size)
        hints[0, :3, rows, columns] = torch.tensor(_color(point[2])).view(3, 1, 1)
        hints[0, 3, rows, columns] = 1
    return hints


def read_hints(path: str | Path, height: int, width: int) -> Tensor:
    """The hints in a file -> (1, 4, height, width), as `hints_of` gives them.

    .json: a list of [x, y, "#rrggbb"] or [x, y, "#rrggbb", size].   .png, .webp: a picture of that size, transparent
    where no hint is.   Any other: a line a hint, `x y #rrggbb [size]`, parted by spaces or commas.
    ValueError for what is none of these and as for `hints_of`; the file is named.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in PICTURES:
            return _painted(path, height, width)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            kinds = " or ".join(PICTURES)
            raise ValueError(f"hints must be lines `{LINE}`, JSON or a picture in {kinds}, not this") from None
        if path.suffix.lower() == ".json":
            try:
                points = json.loads(text)
            except json.JSONDecodeError as error:
                raise ValueError(f"not JSON: {error}") from None
            if not isinstance(points, list) or not all(isinstance(point, list) for point in points):
                raise ValueError('hints must be a list of [x, y, "#rrggbb", size], not something else')
        else:
            points = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
        return hints_of(points, height, width)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _painted(path: Path, height: int, width: int) -> Tensor:
    import numpy as np  # whoever has no picture needs torch alone
    from PIL import Image

    with Image.open(path) as picture:
        if picture.size != (width, height):
            wide, high = picture.size
            raise ValueError(f"hints must have the size of the picture, {width}x{height} pixels, not {wide}x{high}")
        if not picture.has_transparency_data:
            raise ValueError("hints must be a picture that is transparent where no hint is, not one without alpha")
        values = torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1)[None].float()
    given = (values[:, 3:] > 127).float()
    return torch.cat([(values[:, :3] / 127.5 - 1) * given, given], 1)


def _whole(value: Any, name: str) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.5
    if not number.is_integer():
        raise ValueError(f"{name} of a hint must be a whole number, not {value!r}")
    return int(number)


def _color(value: Any) -> list[float]:
    digits = str(value).removeprefix("#")
    if len(digits) != 6 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
        raise ValueError(f"a color must be #rrggbb, not {value!r}")
    return [int(digits[at : at + 2], 16) / 127.5 - 1 for at in (0, 2, 4)]
