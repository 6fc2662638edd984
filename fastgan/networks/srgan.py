"""SRGAN's generator: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", 2017."""

from __future__ import annotations

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
