"""What every distance between two sets of features asks of them."""

from __future__ import annotations

import torch
from torch import Tensor


def checked(least: int = 2, **sets: Tensor) -> list[Tensor]:
    """The sets of features in float64. TypeError or ValueError, by name, for what is none or has fewer than `least`."""
    widths = {}
    for name, features in sets.items():
        if not isinstance(features, Tensor) or not features.is_floating_point():
            given = features.dtype if isinstance(features, Tensor) else type(features).__name__
            raise TypeError(f"{name} must be a floating-point tensor of features (N, D), not {given}")
        if features.dim() != 2 or features.shape[1] == 0:
            raise ValueError(f"{name} must be features (N, D), not shape {tuple(features.shape)}")
        if len(features) < least:
            raise ValueError(f"{name} has {len(features)} samples, at least {least} are needed")
        if not features.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity: the generator or the network of the features has diverged")
        widths[name] = features.shape[1]
    if len(set(widths.values())) > 1:
        raise ValueError(
            f"features of one network have one length, not {', '.join(f'{n} {w}' for n, w in widths.items())}"
        )
    return [features.detach().to(torch.float64) for features in sets.values()]


def positive(**counts: int) -> None:
    """ValueError, by name, for what is not a whole number of at least 1."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, not {value!r}")
