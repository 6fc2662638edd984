"""The networks of SRGAN: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", 2017, figure 4."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn


class SRGANBlock(nn.Module):
    """(N, width, H, W) -> the same shape"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))


class SRGANGenerator(nn.Module):
    """Four times the resolution: (N, channels, H, W) -> (N, channels, 4H, 4W), any values

    width: channels of all maps.   blocks: residual ones at the size of the input.
    """

    def __init__(self, width: int = 64, blocks: int = 16, channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(
            *(SRGANBlock(width) for _ in range(blocks)),
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
        )
        self.last = nn.Sequential(
            *(nn.Conv2d(width, width * 4, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()),
            *(nn.Conv2d(width, width * 4, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()),
            nn.Conv2d(width, channels, 9, padding=4),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.trunk(x))


def srgan_discriminator(width: int = 64, resolution: int = 96, channels: int = 3) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, 1) logits

    width: channels of the largest maps; they double at each size, four times halved, up to 8 times as many. The hidden
    dense layer has 16 times as many units.
    """
    widths = [width * min(2 ** (layer // 2), 8) for layer in range(8)]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2, True)]
    for layer, (before, after) in enumerate(pairwise(widths), start=1):
        stride = 1 + layer % 2
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, True)]
    pixels = math.ceil(resolution / 16) ** 2
    dense = nn.Linear(widths[-1] * pixels, 16 * width)
    return nn.Sequential(*layers, nn.Flatten(), dense, nn.LeakyReLU(0.2, True), nn.Linear(16 * width, 1))
