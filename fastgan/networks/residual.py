"""Residual networks of WGAN-GP and SNGAN, with the weights that the authors of both begin with: Gulrajani et al.,
"Improved Training of Wasserstein GANs", 2017; Miyato et al., "Spectral Normalization for Generative Adversarial
Networks", 2018."""

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


def critic(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """WGAN-GP's: (N, channels, S, S) -> (N, 1), with `widths` of its maps from the largest to 4x4

    Five widths, for 64x64, have layer normalisation; four, which are equal, for 32x32, have none.
    """
    blocks: list[nn.Module]
    if len(widths) == 5:
        blocks = [init.xavier(nn.Conv2d(channels, widths[0], 3, padding=1))]
        blocks += [DownBlock(before, after, layer_norm=True) for before, after in pairwise(widths)]
        last = nn.Sequential(nn.Flatten(), init.xavier(nn.Linear(widths[-1] * 16, 1)))
    else:
        blocks = _at_32(channels, widths[0])
        linear = init.xavier(nn.Linear(widths[0], 1))
        last = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    return nn.Sequential(*blocks, last)


def discriminator(channels: int, width: int, resolution: int = 32) -> nn.Sequential:
    """SNGAN's: (N, channels, resolution, resolution) -> (N, 1) logits, the weights not yet normalised

    width: channels of all maps at 32; at 64 (Miyato and Koyama 2018) from half to eight times as many.
    """
    blocks: list[nn.Module]
    if resolution == 64:
        widths = [width // 2, width, 2 * width, 4 * width, 8 * width]
        blocks = [FirstBlock(channels, widths[0]), *(DownBlock(*both) for both in pairwise(widths))]
    else:
        widths = [width]
        blocks = _at_32(channels, width)
    return nn.Sequential(*blocks, nn.Sequential(ReLUSum(), init.xavier(nn.Linear(widths[-1], 1))))


def _at_32(channels: int, width: int) -> list[nn.Module]:
    """(N, channels, 32, 32) -> (N, width, 8, 8)"""
    first = [FirstBlock(channels, width), DownBlock(width, width)]
    return [*first, *(DownBlock(width, width, halve=False) for _ in range(2))]


class ReLUSum(nn.Module):
    """(N, C, H, W) -> (N, C)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).sum((2, 3))
