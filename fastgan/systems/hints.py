"""Hints as a person might give them, drawn from the colors of a picture: Zhang et al. 2017, section 3.2."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastgan.systems.base import System, normal, uniform

ENDS = 1 / 8  # the probability that there is no further hint
LARGEST = 9  # pixels a side of a hint
MOST = 64  # hints in training: more come in 2 of 10,000 pictures
EVERYTHING = 0.01  # the share of pictures in training of which every pixel is a hint, to learn to copy


def drawn_hints(ab: Tensor, system: System) -> Tensor:
    """Of training: a number of hints of each picture from the geometric distribution, mean 7; of 1 % everything.

    ab: (N, 2, H, W)  ->  (N, 3, H, W): a and b where a hint is, else 0, and 1 where one is
    """
    chance = uniform((len(ab), 2), system, None, low=0.0)
    counts = (chance[:, 0].log() / math.log(1 - ENDS)).clamp(max=MOST).floor()
    hints = hints_at(ab, counts, *drawn_places(len(ab), MOST, system))
    everything = torch.cat([ab, torch.ones_like(ab[:, :1])], 1)
    return torch.where(chance[:, 1].view(-1, 1, 1, 1) < EVERYTHING, everything, hints)


def drawn_places(
    rows: int, most: int, system: System, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Of `most` hints for each of so many pictures: their sizes (N, M), 1 to 9, and N(0, 1) for their places (N, M, 2),
    which `hints_at` takes."""
    sizes = (uniform((rows, most), system, generator, low=0.0) * LARGEST).floor() + 1
    return sizes.clamp(max=LARGEST), normal((rows, most, 2), system, generator)


def hints_at(colors: Tensor, counts: Tensor, sizes: Tensor, places: Tensor) -> Tensor:
    """The first `counts` (N,) of the hints of each picture, squares of the average color of what they hide.

    sizes: (N, M) pixels a side.   places: (N, M, 2), row and column, N(0, 1): in quarters of the sides from the middle.
    colors: (N, C, H, W)  ->  (N, C + 1, H, W): the color where a hint is, else 0, and 1 where one is. Of hints that
    overlap the last one counts.
    """
    (rows, channels, height, width), most = colors.shape, sizes.shape[1]
    sizes = sizes.clamp(max=min(height, width)).long()
    tops, lefts = (
        ((side - sizes) * (0.5 + places[..., axis] / 4)).round().clamp(min=0).minimum(side - sizes).long()
        for axis, side in enumerate((height, width))
    )
    hints = averages(colors, tops, lefts, sizes)

    def covered(first: Tensor, side: int) -> Tensor:
        at = torch.arange(side, device=colors.device)
        return (at >= first.unsqueeze(-1)) & (at < (first + sizes).unsqueeze(-1))

    numbers = torch.arange(1, most + 1, device=colors.device)
    numbers = (numbers * (numbers <= counts.unsqueeze(-1))).to(torch.uint8 if most < 256 else torch.int32)
    tall, wide = covered(tops, height) * numbers.unsqueeze(-1), covered(lefts, width)
    last = (tall.unsqueeze(-1) * wide.unsqueeze(-2)).amax(1).view(rows, 1, -1).long()  # its number; 0: there is none
    table = torch.cat([torch.zeros_like(hints[..., :1]), hints], -1)
    filled = table.gather(2, last.expand(-1, channels, -1))
    return torch.cat([filled, (last > 0).to(colors.dtype)], 1).view(rows, channels + 1, height, width)


def averages(colors: Tensor, tops: Tensor, lefts: Tensor, sizes: Tensor) -> Tensor:
    """(N, C, M): of the squares."""
    rows, channels, height, width = colors.shape
    steps = torch.arange(LARGEST, device=colors.device)
    ys, xs = ((first.unsqueeze(-1) + steps) for first in (tops, lefts))
    inside = steps < sizes.unsqueeze(-1)
    share = (inside.unsqueeze(-1) & inside.unsqueeze(-2)).to(colors.dtype) / sizes.view(*sizes.shape, 1, 1).square()
    at = ys.clamp(max=height - 1).unsqueeze(-1) * width + xs.clamp(max=width - 1).unsqueeze(-2)
    values = colors.flatten(2).gather(2, at.flatten(1).unsqueeze(1).expand(-1, channels, -1))
    return (values.view(rows, channels, *at.shape[1:]) * share.unsqueeze(1)).sum((3, 4))
