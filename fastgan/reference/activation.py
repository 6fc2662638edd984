"""The activations that the fused ops know, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _prelu(z: Tensor, slope: Tensor) -> Tensor:
    """PReLU of z (N, C, *) with one slope (1,) or one a channel (C,), in whatever dtype z has."""
    slope = slope.to(z.dtype)
    return F.prelu(z, slope) if z.dim() > 1 else torch.where(z > 0, z, z * slope)


# Name -> f(z, slope). `slope` is the negative slope of leaky_relu, alpha of elu, the weight tensor of prelu,
# and unused elsewhere. The order of the names is their number in csrc/include/act.h.
ACTIVATIONS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "none": lambda z, slope: z,
    "relu": lambda z, slope: F.relu(z),
    "leaky_relu": lambda z, slope: F.leaky_relu(z, slope),
    "prelu": _prelu,
    "elu": lambda z, slope: F.elu(z, slope),
    "tanh": lambda z, slope: torch.tanh(z),
    "sigmoid": lambda z, slope: torch.sigmoid(z),
    "silu": lambda z, slope: F.silu(z),
}
