"""Networks for points, images of one pixel: three hidden layers without a norm, as WGAN-GP's authors train on mixtures
of Gaussians."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from fastgan.nn import init
from fastgan.systems.adversarial import AdversarialConfig, with_dropout


def generator(config: AdversarialConfig) -> nn.Sequential:
    """(N, latent) -> (N, channels, 1, 1) in [-1, 1]"""
    last = nn.Linear(config.width, config.channels)
    return init.he(nn.Sequential(hidden(config.latent, config.width), last, nn.Tanh(), nn.Unflatten(1, (-1, 1, 1))))


def discriminator(config: AdversarialConfig) -> nn.Sequential:
    """(N, channels, 1, 1) -> (N, 1) logits"""
    width = config.discriminator_width or config.width
    layers = hidden(config.channels, width)
    return init.he(with_dropout(nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 1)), config.dropout))


def hidden(before: int, width: int) -> nn.Sequential:
    sizes = (before, width, width, width)
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU(True)) for a, b in pairwise(sizes)))
