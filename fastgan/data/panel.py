"""Something to look at, as a system shows it and a file or a logger takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Panel:
    """One part: a grid of images (N, C, H, W) in [-1, 1], or points (N, 2). Several parts of N images each, such as
    input, output and truth: a row a sample, a column a part. `texts`: one a sample, beside or instead of images."""

    name: str  # "samples", "a to b", ...
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    columns: int | None = None  # of the grid of one part; none: as square as can be
    behind: Tensor | None = None  # (M, 2) points of the data, drawn behind those of the one part
    texts: tuple[str, ...] = ()


def by_class(count: int, classes: int) -> tuple[int, int | None]:
    """How many images of about `count` fill whole rows, and the columns of `grid`, where images are of each class in
    turn: a column a class. Without classes, or with more than that, all of them and no columns."""
    return (count // classes * classes, classes) if 1 < classes <= count else (count, None)
