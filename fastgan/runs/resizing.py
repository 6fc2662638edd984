"""Pictures brought to another size together with the masks and hints that belong to their pixels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

PLACED = ("mask", "hints")  # inputs whose pixels are those of the picture; others, as a reference, stay as they are
POINTS = 1000  # colors in cells, up to which hints are points of which none may get lost, and beyond a painting


def brought(image: Tensor, inputs: Mapping[str, Tensor], size: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
    """A picture at (height, width), and what of the inputs belongs to its pixels."""
    return resized(image, size), {n: placed(x, size, n) if n in PLACED else x for n, x in inputs.items()}


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, H, W) in [-1, 1] -> (N, C, *size), bicubic and antialiased, in [-1, 1]."""
    if image.shape[2:] == size:
        return image
    values = F.interpolate(image.float(), size, mode="bicubic", antialias=True)
    return values.clamp(-1, 1).to(image.dtype)


def placed(values: Tensor, size: tuple[int, int], name: str) -> Tensor:
    """A mask (N, 1, H, W) or hints (N, 4, H, W) of a picture that is brought to that size.

    A pixel of the smaller picture is missing where any pixel was that it is made of. A hint stays a hint, however small
    it becomes: where two of different colors come to lie on one another, the smaller one moves to the next free place.
    """
    if values.shape[2:] == size:
        return values
    least = min(values.shape[2], size[0]), min(values.shape[3], size[1])
    if values.shape[2:] != least:
        values = torch.stack([_fewer_hints(each, least) for each in values]) if name == "hints" else (
            F.adaptive_max_pool2d(values, least))  # fmt: skip
    return F.interpolate(values, size, mode="nearest")


def _fewer_hints(hints: Tensor, size: tuple[int, int]) -> Tensor:
    """(4, H, W) -> (4, *size), which is smaller."""
    rows, columns = (hints[3] > 0).nonzero().unbind(1)
    result = hints.new_zeros(4, *size)
    if not len(rows):
        return result
    colors, color = hints[:3, rows, columns].T.unique(dim=0, return_inverse=True)
    cells = rows * size[0] // hints.shape[1] * size[1] + columns * size[1] // hints.shape[2]
    groups, pixels = torch.stack([cells, color], 1).unique(dim=0, return_counts=True)
    groups = groups[pixels.argsort(descending=True, stable=True)]
    taken = torch.full((size[0] * size[1],), -1)  # the color of each cell
    first = _first_of_each(groups[:, 0])
    taken[groups[first, 0]] = groups[first, 1]
    if len(groups) <= POINTS:
        others = groups[~first].tolist()
        for cell, own in others:
            _move(taken.view(size), divmod(cell, size[1]), own)
    known = (taken >= 0).view(size)
    result[:3, known] = colors[taken[taken >= 0]].T
    result[3, known] = 1
    return result


def _first_of_each(values: Tensor) -> Tensor:
    """(N,) bool: where a value is met for the first time."""
    order = values.argsort(stable=True)
    ahead = torch.ones_like(values, dtype=torch.bool)
    ahead[1:] = values[order][1:] != values[order][:-1]
    first = torch.zeros_like(ahead)
    first[order[ahead]] = True
    return first


def _move(taken: Tensor, place: tuple[int, int], color: int) -> None:
    """Give a color the free cell that is nearest to its own, unless a cell beside that shows it already."""
    row, column = place
    if (taken[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] == color).any():
        return
    free = (taken < 0).nonzero()
    if len(free):
        row, column = free[(free - torch.tensor(place)).square().sum(1).argmin()].tolist()
        taken[row, column] = color
