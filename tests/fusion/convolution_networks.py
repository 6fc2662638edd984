"""Small networks of a convolution and an activation, in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations

from fastgan import fuse

WEIGHTS = {
    "spectral norm": parametrizations.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "spectral norm, older": nn.utils.spectral_norm,
    "weight norm, older": nn.utils.weight_norm,
    "both": lambda conv: parametrizations.spectral_norm(parametrizations.weight_norm(conv)),
}


def convolution(kind: type[nn.Module] = nn.Conv2d, **options: Any) -> nn.Module:
    return kind(3, 3, 3, padding=1, **options)


def small(act: nn.Module | None = None, conv: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(conv or convolution(), act or nn.ReLU(inplace=True)).double()


def image() -> torch.Tensor:
    return torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)


class Doubled(nn.Module):
    """A parametrization of one's own."""

    def forward(self, t):
        return t * 2


def two(make: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """A network fused, and the same unfused; made twice, since the older weight norm does not allow copies."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            models.append(make())
    return fuse(models[0]), models[1]
