"""What the headers of a data set's pictures say: of which size and channels they are, and what is done to them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastgan.data.decode import LEAST_PART, Header, twice_as_wide

FEW = 20  # a size below which one picture in so many lies is not that of the data set
SQUARE = 1.1  # longer by shorter side of a picture whose middle square is all but the whole


class Survey(NamedTuple):
    """headers: of the pictures that can be read, of those `looked` at, of `total`, which is 0 where it is not known."""

    headers: Sequence[Header]
    looked: int
    total: int

    def shape(self) -> tuple[int, int]:
        """The side that nineteen of twenty pictures have at least, and the channels: 3 if any is in color.

        Tracking pixels and icons among photographs are left out later, and do not decide here.
        """
        sides = np.array([header.side for header in self.headers])
        kept = sides * LEAST_PART >= np.median(sides)
        side = int(np.sort(sides[kept])[kept.sum() // FEW])
        return side, max(header.channels for header, keep in zip(self.headers, kept) if keep)

    def side_by_side(self) -> bool:
        """Whether nine of ten pictures are twice as wide as high: two beside each other."""
        wide = sum(twice_as_wide(header.width, header.height) for header in self.headers)
        return wide >= 0.9 * len(self.headers)

    def lines(self, name: str, shape: tuple[int, int, int], fit: str) -> list[str]:
        """What becomes other than it is, made images of that shape, (channels, height, width); a line for each kind."""
        channels, height, width = shape
        resolution, made = min(height, width), f"{width}x{height}"
        n = len(self.headers)
        part = "" if self.looked == self.total else f" ({self.looked:,} were looked at, of {self.total or 'a stream'})"
        sides = np.array([header.side for header in self.headers])
        used = sides[sides * LEAST_PART >= resolution]  # others are left out, and named when they are met
        said = []
        gray = sum(header.channels == 1 for header in self.headers)
        if channels == 3 and 0 < gray < n:
            said.append(f"{gray:,} of {n:,} pictures are gray: training in color, --channels 1 for gray")
        elif channels == 1 and gray < n:
            said.append(f"{n - gray:,} of {n:,} pictures are in color, and are made gray; --channels 3 for color")
        if fit == "cut":
            return [f"{name}: {line}{part}" for line in [*said, f"windows of {made} are cut from the pictures"]]
        small, large = used[used < resolution], used[used > resolution]
        if len(large):
            half = f", half of them {int(np.median(used)):,} or more" if used.min() < used.max() else ""
            said.append(
                f"pictures of {_range(used)} pixels on the shorter side{half}, are made {made}; "
                f"--resolution N for another size"
            )
        if len(small):
            said.append(
                f"{len(small):,} of {n:,} pictures are smaller than {made} and are enlarged, from "
                f"{_range(small)} pixels"
            )
        ratios = np.array([header.width * height / (header.height * width) for header in self.headers])
        ratios = np.maximum(ratios, 1 / ratios)  # of the longer side to the shorter, where they are made square
        if (oblong := ratios > SQUARE).any():
            other = "square" if height == width else f"of the shape of {made}"
            becomes = "their outer parts are left out" if fit == "crop" else "they are stretched"
            said.append(
                f"{oblong.sum():,} of {n:,} pictures are not {other} (half of these {np.median(ratios[oblong]):.2f} to "
                f"1 or more): {becomes}"
            )
        return [f"{name}: {line}{part}" for line in said]


def _range(sides: np.ndarray) -> str:
    low, high = int(sides.min()), int(sides.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
