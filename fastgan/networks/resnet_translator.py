"""CycleGAN's generator: Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks", 2017, after Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
Super-Resolution", 2016."""

from __future__ import annotations

from torch import Tensor, nn

from fastgan.networks.upsampling import doubled


class ResidualBlock(nn.Module):
    """(N, width, H, W) -> the same shape: two 3x3 convolutions of reflected borders, each with instance norm"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(True)),
            *(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def resnet_translator(
    width: int = 64, blocks: int = 9, channels: int = 3, out_channels: int = 3, upsampling: str = "transposed"
) -> nn.Sequential:
    """(N, channels, H, W) -> (N, out_channels, H, W) in [-1, 1], H and W multiples of 4

    width: channels of the largest maps.   blocks: residual ones at a quarter of the size; 9 for 256x256 pixels, 6 for
    128x128.   upsampling: at its end, see `fastgan.networks.upsampling.doubled`.
    """
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU(True)]
    for before in (width, width * 2):
        layers += [nn.Conv2d(before, before * 2, 3, 2, 1), nn.InstanceNorm2d(before * 2), nn.ReLU(True)]
    layers += [ResidualBlock(width * 4) for _ in range(blocks)]
    for before in (width * 4, width * 2):
        layers += [*doubled(before, before // 2, upsampling, kernel=3), nn.InstanceNorm2d(before // 2), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7), nn.Tanh())
