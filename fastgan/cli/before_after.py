"""What `fastgan translate` shows of its work: each picture before, what it was given beside it, and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SHEET = 64  # pictures on it, at most
CELL = 256  # pixels a side of a picture on it, at most


def cells(image: Tensor, inputs: Mapping[str, Tensor], result: Tensor, truth: Tensor | None) -> dict[str, Tensor]:
    """(3, CELL, CELL) uint8 each: before, what was given beside it, after, and what should have come out.

    image, truth, inputs: (1, C, H, W) in [-1, 1], masks and hints as systems take them.   result: (C, H, W) uint8.
    """
    import torch

    from fastgan.data.pictures import to_uint8

    shown = {"before": image}
    if "mask" in inputs:
        shown["mask"] = inputs["mask"] * 2 - 1
    if "hints" in inputs:
        hints = inputs["hints"]
        shown["hints"] = torch.where(hints[:, 3:] > 0, hints[:, :3], image.mean(1, keepdim=True))
    if "reference" in inputs:
        shown["reference"] = inputs["reference"]
    found = {name: cell(to_uint8(values[0].clamp(-1, 1))) for name, values in shown.items()}
    found["after"] = cell(result)
    if truth is not None:
        found["truth"] = cell(to_uint8(truth[0]))
    return found


def cell(image: Tensor) -> Tensor:
    """(C, H, W) uint8 -> (3, CELL, CELL) uint8: as large as fits, in the middle of black."""
    import numpy as np
    import torch
    from PIL import Image

    height, width = image.shape[1:]
    times = CELL / max(height, width)
    size = [max(1, round(side * times)) for side in (height, width)]
    kind = Image.Resampling.NEAREST if times >= 1 else Image.Resampling.BICUBIC
    picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).contiguous().numpy())
    # A large picture is made small by a mean first, in whole numbers: the filter alone would take many times longer.
    pixels = np.array(picture.resize(size[::-1], kind, reducing_gap=None if times >= 1 else 3.0).convert("RGB"))
    top, left = ((CELL - side) // 2 for side in size)
    result = torch.zeros(3, CELL, CELL, dtype=torch.uint8)
    result[:, top : top + size[0], left : left + size[1]] = torch.from_numpy(pixels).permute(2, 0, 1)
    return result


def sheet(shown: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """What `cells` gives of each picture, side by side; several pictures a row."""
    import torch

    from fastgan.data import grid

    parts = len(shown[0])
    row = max(1, round(math.sqrt(len(shown) / parts)))
    return grid(torch.stack([image for pictures in shown for image in pictures.values()]), parts * row)


def save_gif(path: str, shown: Sequence[Mapping[str, Tensor]]) -> None:
    """All befores fade into all afters, and back: of many pictures smaller ones, as in the film of a training."""
    import torch
    import torch.nn.functional as F

    from fastgan.data import grid
    from fastgan.data.movie import SIDE, save_gif

    both = [grid(torch.stack([each[name] for each in shown])).float() for name in ("before", "after")]
    times = math.ceil(max(both[0].shape) / SIDE)
    before, after = (F.avg_pool2d(pictures, times) for pictures in both)
    there = [i / 8 for i in range(9)]
    shares = [0.0] * 8 + there + [1.0] * 8 + there[::-1]
    save_gif(path, [(before + (after - before) * share).round().to(torch.uint8) for share in shares], hold=0.1)
