"""Generators that change a face's make-up and nothing else: after Chang, Lu, Yu, Finkelstein, "PairedCycleGAN:
Asymmetric Style Transfer for Applying and Removing Makeup", 2018."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastgan.networks.resnet_translator import ResidualBlock
from fastgan.networks.upsampling import doubled


class MakeupGenerator(nn.Module):
    """x + mask * (colors - x), both made of features of x, and of a reference y where it takes one.

    (N, channels, H, W) in [-1, 1], and a reference of the same shape -> the same shape, in [-1, 1]; H and W multiples
    of 4.   width: channels of the largest maps.   blocks: residual ones at a quarter of the size.
    reference: whether it takes one, whose features have a first layer of their own.
    upsampling: at its end, see `fastgan.networks.upsampling.doubled`.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 6,
        channels: int = 3,
        reference: bool = True,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        self.channels = channels
        self.source = _features(channels, width)
        self.reference = _features(channels, width) if reference else None
        layers: list[nn.Module] = []
        for before, after in ((width * 2 if reference else width, width * 2), (width * 2, width * 4)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.InstanceNorm2d(after), nn.ReLU(True)]
        layers += [ResidualBlock(width * 4) for _ in range(blocks)]
        for before in (width * 4, width * 2):
            layers += doubled(before, before // 2, upsampling, kernel=3)
            layers += [nn.InstanceNorm2d(before // 2), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels + 1, 7))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        features = self.source(x)
        if self.reference is not None:
            features = torch.cat([features, self.reference(y)], 1)
        made = self.layers(features).to(x.dtype)
        colors, mask = made[:, : self.channels].tanh(), made[:, self.channels :].sigmoid()
        return x + mask * (colors - x)


def _features(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7), nn.InstanceNorm2d(width), nn.ReLU(True)
    )  # fmt: skip
