"""Networks for points: three hidden layers without a norm, as the authors of WGAN-GP (Gulrajani et
al., "Improved Training of Wasserstein GANs", 2017) train on mixtures of Gaussians."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from fastgan.nn import init


def generator(latent: int, width: int, channels: int) -> nn.Sequential:
    """(N, latent) -> (N, channels) in [-1, 1]"""
    return init.he(nn.Sequential(hidden(latent, width), nn.Linear(width, channels), nn.Tanh()))


def discriminator(channels: int, width: int) -> nn.Sequential:
    """(N, channels) -> (N, 1) logits"""
    return init.he(nn.Sequential(nn.Flatten(), *hidden(channels, width), nn.Linear(width, 1)))


def hidden(before: int, width: int) -> nn.Sequential:
    sizes = (before, width, width, width)
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU(True)) for a, b in pairwise(sizes)))
