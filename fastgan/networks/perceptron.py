"""Networks for points, images of one pixel: three hidden layers without a norm, as the authors of WGAN-GP (Gulrajani et
al., "Improved Training of Wasserstein GANs", 2017) train on mixtures of Gaussians."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from fastgan.nn import init


def generator(latent: int, width: int, channels: int) -> nn.Sequential:
    """(N, latent) -> (N, channels, 1, 1) in [-1, 1]"""
    last = nn.Linear(width, channels)
    return init.he(nn.Sequential(hidden(latent, width), last, nn.Tanh(), nn.Unflatten(1, (-1, 1, 1))))


def discriminator(channels: int, width: int) -> nn.Sequential:
    """(N, channels, 1, 1) -> (N, 1) logits"""
    return init.he(nn.Sequential(nn.Flatten(), *hidden(channels, width), nn.Linear(width, 1)))


def hidden(before: int, width: int) -> nn.Sequential:
    sizes = (before, width, width, width)
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU(True)) for a, b in pairwise(sizes)))
