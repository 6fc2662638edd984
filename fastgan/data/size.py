"""Height and width of pictures, and which part of a picture becomes one of them."""

from __future__ import annotations

from typing import Any

FITS = ("crop", "stretch", "cut")

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
        raise ValueError(f"fit must be {', '.join(map(repr, FITS[:-1]))} or {FITS[-1]!r}, not {fit!r}")


def at_least(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a picture from which a window of that size can be cut: its own, or enlarged until it can."""
    scale = max(1.0, size[0] / height, size[1] / width)
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def used_part(height: int, width: int, size: tuple[int, int], fit: str) -> tuple[int, int, int, int]:
    """(top, left, height, width) of what becomes a picture of that size: the middle part of its aspect ratio, or all
    of it where the fit is "stretch", or "cut", by which windows are taken of it later."""
    if fit in ("stretch", "cut"):
        return 0, 0, height, width
    high, wide = size
    if width * high > height * wide:
        part = max(1, round(height * wide / high))
        return 0, (width - part) // 2, height, part
    part = max(1, round(width * high / wide))
    return (height - part) // 2, 0, part, width
