"""Height and width of pictures, and which part of a picture becomes one of them."""

from __future__ import annotations

from typing import Any

FITS = ("crop", "stretch")

Size = int | tuple[int, int]  # of a square's side, or (height, width), in pixels


def as_size(resolution: Any) -> tuple[int, int]:
    """(height, width) of a side or of both. ValueError for anything else."""
    both = tuple(resolution) if isinstance(resolution, tuple | list) else (resolution, resolution)
    if len(both) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in both):
        raise ValueError(f"resolution must be a positive integer or two of them, (height, width), not {resolution!r}")
    height, width = both
    return height, width


def check_fit(fit: Any) -> None:
    """ValueError unless it is one of FITS."""
    if fit not in FITS:
        raise ValueError(f"fit must be {' or '.join(map(repr, FITS))}, not {fit!r}")


def used_part(height: int, width: int, size: tuple[int, int], fit: str) -> tuple[int, int, int, int]:
    """(top, left, height, width) of what becomes a picture of that size: the middle part of its aspect ratio, or all
    of it where the fit is "stretch"."""
    if fit == "stretch":
        return 0, 0, height, width
    high, wide = size
    if width * high > height * wide:
        part = max(1, round(height * wide / high))
        return 0, (width - part) // 2, height, part
    part = max(1, round(width * high / wide))
    return (height - part) // 2, 0, part, width
