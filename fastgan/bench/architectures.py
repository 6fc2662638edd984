"""Networks that people train, in plain torch.nn and as published: what `fuse` meets in the wild."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def resize_generator(latent: int = 100, width: int = 64, channels: int = 3) -> nn.Sequential:
    """DCGAN's generator, each transposed convolution but the first as upsampling and a 3x3 convolution (Odena 2016,
    "Deconvolution and Checkerboard Artifacts").   (N, latent, 1, 1) -> (N, channels, 64, 64)"""
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent, width * 8, 4, bias=False), *_norm_relu(width * 8)]
    for wide, narrow in pairwise((width * 8, width * 4, width * 2, width)):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1, bias=False), *_norm_relu(narrow)]
    layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers)


def pool_discriminator(width: int = 64, channels: int = 3) -> nn.Sequential:
    """DCGAN's discriminator, each strided convolution as a 3x3 convolution and average pooling.
    (N, channels, 64, 64) -> (N, 1, 1, 1) logits"""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.AvgPool2d(2), nn.LeakyReLU(0.2, True)]
    for narrow, wide in pairwise((width, width * 2, width * 4, width * 8)):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.AvgPool2d(2)]
        layers += [nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(width * 8, 1, 4, bias=False))


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(True)]


class UpBlock(nn.Module):
    """Pre-activation residual block at twice the resolution: (N, before, H, W) -> (N, after, 2H, 2W)"""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h)))
        return h + self.shortcut(F.interpolate(x, scale_factor=2))


class DownBlock(nn.Module):
    """Residual block with spectral norm: (N, before, H, W) -> (N, after, H/2, W/2), or (N, after, H, W)

    `first`: on an image, where no activation comes before and the shortcut pools first (Miyato 2018, code).
    """

    def __init__(self, before: int, after: int, *, halve: bool = True, first: bool = False) -> None:
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(before, after, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(after, after, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(before, after, 1)) if halve or before != after else nn.Identity()
        self.halve, self.first = halve, first

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x if self.first else F.relu(x))
        h = self.conv2(F.relu(h))
        if not self.halve:
            return h + self.shortcut(x)
        if self.first:
            return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))
        return F.avg_pool2d(h, 2) + F.avg_pool2d(self.shortcut(x), 2)


class SNGANGenerator(nn.Module):
    """SNGAN's ResNet for 32x32 (Miyato 2018): (N, latent) -> (N, 3, 32, 32)"""

    def __init__(self, latent: int = 128, width: int = 256) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(latent, width * 16)
        self.blocks = nn.Sequential(*(UpBlock(width, width) for _ in range(3)))
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(True), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.blocks(self.linear(z).view(-1, self.width, 4, 4)))


class SNGANDiscriminator(nn.Module):
    """SNGAN's ResNet for 32x32, spectral norm and no other (Miyato 2018): (N, 3, 32, 32) -> (N, 1) logits"""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            DownBlock(3, width, first=True),
            DownBlock(width, width),
            DownBlock(width, width, halve=False),
            DownBlock(width, width, halve=False),
        )
        self.linear = spectral_norm(nn.Linear(width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.blocks(x)).sum((2, 3)))


class CycleGANBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(True)),
            *(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def cyclegan_generator(width: int = 64, blocks: int = 9) -> nn.Sequential:
    """CycleGAN (Zhu 2017), 9 blocks for 256x256, 6 for 128x128: (N, 3, H, W) -> (N, 3, H, W)"""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), nn.InstanceNorm2d(width), nn.ReLU(True)]
    for channels in (width, width * 2):
        layers += [nn.Conv2d(channels, channels * 2, 3, 2, 1), nn.InstanceNorm2d(channels * 2), nn.ReLU(True)]
    layers += [CycleGANBlock(width * 4) for _ in range(blocks)]
    for channels in (width * 4, width * 2):
        layers += [nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1)]
        layers += [nn.InstanceNorm2d(channels // 2), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())


class SRGANBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))


class SRGANGenerator(nn.Module):
    """SRGAN (Ledig 2017), four times the resolution: (N, 3, H, W) -> (N, 3, 4H, 4W)"""

    def __init__(self, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(
            *(SRGANBlock(width) for _ in range(blocks)),
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
        )
        self.last = nn.Sequential(
            *(nn.Conv2d(width, width * 4, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()),
            *(nn.Conv2d(width, width * 4, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()),
            nn.Conv2d(width, 3, 9, padding=4),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.trunk(x))


def vgg19(width: int = 64) -> nn.Sequential:
    """VGG-19 (Simonyan 2015) up to its last ReLU, as perceptual losses use it: (N, 3, H, W) -> (N, 512, H/16, W/16)"""
    layers: list[nn.Module] = []
    before = 3
    for level, count in enumerate((2, 2, 4, 4, 4)):
        layers += [nn.MaxPool2d(2)] if level else []
        after = width * min(2**level, 8)
        for _ in range(count):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(True)]
            before = after
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """pix2pix's U-Net (Isola 2017), 8 levels for 256x256: (N, 3, H, W) -> (N, 3, H, W)

    The activation comes before the convolution and, in the encoder, in place: a skip carries the activated tensor.
    """

    def __init__(self, width: int = 64, levels: int = 8) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(levels)]
        downs: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False)]
        for level, (before, after) in enumerate(pairwise(widths), start=1):
            norm = [nn.BatchNorm2d(after)] if level < levels - 1 else []
            downs.append(nn.Sequential(nn.LeakyReLU(0.2, True), nn.Conv2d(before, after, 4, 2, 1, bias=False), *norm))
        ups: list[nn.Module] = []
        for level in range(levels - 1, 0, -1):
            before = widths[level] * (1 if level == levels - 1 else 2)  # a skip beside it, but for the innermost
            dropout = [nn.Dropout(0.5)] if levels - 4 <= level < levels - 1 else []
            after = widths[level - 1]
            deconvolution = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            ups.append(nn.Sequential(nn.ReLU(True), deconvolution, nn.BatchNorm2d(after), *dropout))
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)
        self.last = nn.Sequential(nn.ReLU(True), nn.ConvTranspose2d(width * 2, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = torch.cat([skips.pop(), up(x)], 1)
        return self.last(x)
