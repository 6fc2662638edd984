"""The networks of DCGAN: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", 2016; sizes as in pytorch/examples dcgan/main.py."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from fastgan.networks.upsampling import doubled
from fastgan.nn import ConvNormAct2d, ConvTransposeNormAct2d


def generator(
    latent: int = 100, width: int = 64, resolution: int = 64, channels: int = 3, upsampling: str = "transposed"
) -> nn.Sequential:
    """(N, latent, 1, 1) -> (N, channels, resolution, resolution) in [-1, 1]

    width: channels of the largest maps; they double at each halving of the map, down to 4x4.
    resolution: a power of two from 16.
    upsampling: see `fastgan.networks.upsampling.doubled`.
    """
    widths = [width * resolution // 8 >> level for level in range(int(math.log2(resolution)) - 2)]
    layers: list[nn.Module] = [ConvTransposeNormAct2d(latent, widths[0], 4, 1, 0, act="relu")]
    if upsampling == "resize":
        for wide, narrow in pairwise(widths):
            layers += [*doubled(wide, narrow, upsampling, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(True)]
        return nn.Sequential(*layers, *doubled(widths[-1], channels, upsampling, bias=False), nn.Tanh())
    for wide, narrow in pairwise(widths):
        layers.append(ConvTransposeNormAct2d(wide, narrow, 4, 2, 1, act="relu"))
    layers.append(ConvTransposeNormAct2d(widths[-1], channels, 4, 2, 1, norm=None, act="tanh"))
    return nn.Sequential(*layers)


def discriminator(width: int = 64, resolution: int = 64, channels: int = 3, slope: float = 0.2) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, 1, 1, 1) logits; a block a size, of leaky ReLU's `slope`"""
    widths = [width << level for level in range(int(math.log2(resolution)) - 2)]
    act = "leaky_relu"
    layers: list[nn.Module] = [ConvNormAct2d(channels, widths[0], 4, 2, 1, norm=None, act=act, slope=slope)]
    for narrow, wide in pairwise(widths):
        layers.append(ConvNormAct2d(narrow, wide, 4, 2, 1, act=act, slope=slope))
    layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False))
    return nn.Sequential(*layers)
