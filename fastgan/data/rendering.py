"""Triangles to pixels: a z-buffer in tensor operations, for pictures of one mesh at a time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Fragments(NamedTuple):
    """What is seen of a mesh: P pixels that a triangle covers."""

    pixel: Tensor  # (P,) int64, row * width + column
    face: Tensor  # (P,) int64
    weights: Tensor  # (P, 3) float32, of the triangle's corners
    depth: Tensor  # (P,) float32, larger is nearer


def rasterize(corners: Tensor, size: int, front_only: bool = True) -> Fragments:
    """The nearest triangle at the center of each pixel, by orthographic projection along the third axis.

    corners: (F, 3, 3) float32: of each triangle's corners the column and row in pixels, and the depth, larger nearer.
    size: pixels a side.   front_only: triangles that are seen from behind, whose corners run clockwise on the screen
    with rows downwards, are left out.
    """
    x, y = corners[:, :, 0], corners[:, :, 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (y[:, 1] - y[:, 0]) * (x[:, 2] - x[:, 0])
    low = corners[:, :, :2].amin(1).sub(0.5).ceil().clamp(0, size).long()
    high = corners[:, :, :2].amax(1).sub(0.5).floor().clamp(-1, size - 1).long() + 1
    shown = ((area < -1e-9) if front_only else (area.abs() > 1e-9)) & (high > low).all(1)
    kept = shown.nonzero()[:, 0]
    x, y, z, area, low, extent = x[kept], y[kept], corners[kept, :, 2], area[kept], low[kept], (high - low)[kept]
    # The weights of the second and third corner as functions of column and row.
    slopes = torch.stack(
        [y[:, 2] - y[:, 0], x[:, 0] - x[:, 2], y[:, 0] - y[:, 1], x[:, 1] - x[:, 0]], 1
    ) / area[:, None]  # fmt: skip
    first = low + 0.5
    dx, dy = first[:, 0] - x[:, 0], first[:, 1] - y[:, 0]
    second_0, third_0 = slopes[:, 0] * dx + slopes[:, 1] * dy, slopes[:, 2] * dx + slopes[:, 3] * dy
    depths = torch.stack([z[:, 0], z[:, 1] - z[:, 0], z[:, 2] - z[:, 0]], 1)
    count = extent.prod(1)
    chosen = torch.repeat_interleave(torch.arange(len(kept)), count)  # a row for each pixel of each bounding box
    number = torch.arange(len(chosen)) - (count.cumsum(0) - count)[chosen]
    width = extent[:, 0][chosen]
    down = number // width
    right = number - down * width
    table = torch.cat([slopes, second_0[:, None], third_0[:, None]], 1)[chosen].T
    second = torch.addcmul(torch.addcmul(table[4], table[0], right), table[1], down)
    third = torch.addcmul(torch.addcmul(table[5], table[2], right), table[3], down)
    inside = ((second >= -1e-6) & (third >= -1e-6) & (second + third <= 1 + 1e-6)).nonzero()[:, 0]
    second, third, chosen = second[inside], third[inside], chosen[inside]
    pixel = (low[:, 1][chosen] + down[inside]) * size + low[:, 0][chosen] + right[inside]
    along = depths[chosen]
    depth = along[:, 0] + second * along[:, 1] + third * along[:, 2]
    nearest = torch.full((size * size,), -torch.inf).scatter_reduce_(0, pixel, depth, "amax")
    seen = (depth >= nearest[pixel]).nonzero()[:, 0]
    # Where two are equally near, on an edge that they share, the last one is taken, whatever the order of writing.
    last = torch.full((size * size,), -1).scatter_reduce_(0, pixel[seen], seen, "amax")
    seen = last[last >= 0]
    second, third = second[seen], third[seen]
    return Fragments(pixel[seen], kept[chosen[seen]], torch.stack([1 - second - third, second, third], 1), depth[seen])


def normals(positions: Tensor, faces: Tensor) -> Tensor:
    """(V, 3) unit normals of vertices, the mean of their triangles' by area. faces: (F, 3)."""
    a, b, c = positions[faces].unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(positions)
    for corner in range(3):
        total.index_add_(0, faces[:, corner], across)
    return total / total.norm(dim=1, keepdim=True).clamp(min=1e-9)
