"""The generator of the context encoder: Pathak, Krähenbühl, Donahue, Darrell, Efros, "Context Encoders: Feature
Learning by Inpainting", 2016. Its discriminator, and the half that makes a picture of a code, are those of DCGAN."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from fastgan.networks import dcgan
from fastgan.nn import ConvNormAct2d


def context_encoder(
    width: int = 64, resolution: int = 128, made: int = 64, bottleneck: int = 4000, channels: int = 3
) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, channels, made, made) in [-1, 1]

    width: channels of the largest maps. The encoder's double at each halving after the second, the decoder's at each.
    resolution, made: powers of two from 16, of the picture that goes in and of what is made of it. A side of a larger
        picture must be a multiple of resolution / 4.
    bottleneck: numbers of the code between the two halves.
    """
    widths = [width, *(width << level for level in range(int(math.log2(resolution)) - 3))]
    act = "leaky_relu"
    layers: list[nn.Module] = [ConvNormAct2d(channels, width, 4, 2, 1, norm=None, act=act)]
    layers += [ConvNormAct2d(before, after, 4, 2, 1, act=act) for before, after in pairwise(widths)]
    layers.append(ConvNormAct2d(widths[-1], bottleneck, 4, 1, 0, act=act))
    return nn.Sequential(*layers, *dcgan.generator(bottleneck, width, made, channels))
