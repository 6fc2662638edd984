"""DCGAN without strides, of torch.nn's modules alone: upsampling or average pooling beside 3x3 convolutions, against
the checkerboards of transposed ones (Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", 2016)."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def generator(latent: int = 100, width: int = 64, channels: int = 3) -> nn.Sequential:
    """(N, latent, 1, 1) -> (N, channels, 64, 64) in [-1, 1]"""
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent, width * 8, 4, bias=False), *_norm_relu(width * 8)]
    for wide, narrow in pairwise((width * 8, width * 4, width * 2, width)):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1, bias=False), *_norm_relu(narrow)]
    layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, channels, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers)


def discriminator(width: int = 64, channels: int = 3) -> nn.Sequential:
    """(N, channels, 64, 64) -> (N, 1, 1, 1) logits"""
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.AvgPool2d(2), nn.LeakyReLU(0.2, True)]
    for narrow, wide in pairwise((width, width * 2, width * 4, width * 8)):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.AvgPool2d(2)]
        layers += [nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(width * 8, 1, 4, bias=False))


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(True)]
