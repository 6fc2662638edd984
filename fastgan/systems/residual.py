"""Residual blocks of WGAN-GP and SNGAN, with the weights that the authors of both begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.nn import init


class UpBlock(nn.Module):
    """(N, before, H, W) -> (N, after, 2H, 2W), normalised and activated before each convolution"""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)
        init.xavier(init.xavier(self, math.sqrt(2)).shortcut)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h)))
        return h + self.shortcut(F.interpolate(x, scale_factor=2))


class DownBlock(nn.Module):
    """(N, before, H, W) -> (N, after, H/2, W/2), or without `halve` (N, after, H, W)

    layer_norm: over C, H and W, before each activation, with a weight and a bias a channel; else there is no norm.
    The mean of 2x2 pixels is taken before the shortcut's 1x1 convolution, which gives what it gives after.
    """

    def __init__(self, before: int, after: int, *, halve: bool = True, layer_norm: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(1, before) if layer_norm else nn.Identity() for _ in range(2))
        self.conv1 = nn.Conv2d(before, before, 3, padding=1, bias=not layer_norm)
        self.conv2 = nn.Conv2d(before, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1) if halve or before != after else nn.Identity()
        self.halve = halve
        init.xavier(init.xavier(self, math.sqrt(2)).shortcut)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        h = self.conv2(F.relu(self.norm2(h)))
        if self.halve:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.shortcut(x)


class FirstBlock(nn.Module):
    """Of an image, which is not activated first: (N, before, H, W) -> (N, after, H/2, W/2)"""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)
        init.xavier(init.xavier(self, math.sqrt(2)).shortcut)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(F.relu(self.conv1(x)))
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))


def generator(latent: int, widths: Sequence[int], channels: int) -> nn.Sequential:
    """(N, latent) -> (N, channels, S, S) in [-1, 1], S = 4, doubled from each of the widths to the next"""
    first, last = nn.Linear(latent, widths[0] * 16), nn.Conv2d(widths[-1], channels, 3, padding=1)
    return nn.Sequential(
        *(init.xavier(first), nn.Unflatten(1, (widths[0], 4, 4))),
        *(UpBlock(before, after) for before, after in pairwise(widths)),
        *(nn.BatchNorm2d(widths[-1]), nn.ReLU(True), init.xavier(last), nn.Tanh()),
    )
