"""Differentiable augmentation of what a discriminator sees."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.random import current


class DifferentiableAugment(nn.Module):
    """Random changes of each image, through which gradients pass: Zhao et al. 2020 (arXiv:2006.10738), section 3.

        augment = DifferentiableAugment("color,translation,cutout")
        discriminator(augment(real)), discriminator(augment(fake))

    Both real and generated images have to pass through it, also in the generator's phase: a generator then learns the
    images, not their augmentation.

    policy: any of, in this order, separated by commas
        color         brightness + U(-0.5, 0.5); saturation x U(0, 2); contrast x U(0.5, 1.5)
        translation   by up to an eighth of each side, black (0) outside
        cutout        a square of half of each side becomes 0
    x: (N, C, H, W), floating-point, in [-1, 1]   ->   the same shape and dtype. Changes nothing in eval mode.
    ValueError for an unknown policy.
    """

    def __init__(self, policy: str = "color,translation,cutout") -> None:
        super().__init__()
        self.policy = tuple(part.strip() for part in policy.split(",") if part.strip())
        for part in self.policy:
            if part not in _POLICIES:
                raise ValueError(f"augment: no policy {part!r}; accepted: {', '.join(_POLICIES)}, joined by commas")

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            for name, change in _POLICIES.items():
                if name in self.policy:
                    x = change(x)
        return x

    def extra_repr(self) -> str:
        return ",".join(self.policy)


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    drawn = torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device, generator=current(x.device))
    return drawn * (high - low) + low


def _whole(x: Tensor, among: int) -> Tensor:
    return torch.randint(0, among, (len(x), 1), device=x.device, generator=current(x.device))


def _color(x: Tensor) -> Tensor:
    x = x + _uniform(x, -0.5, 0.5)
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, _uniform(x, 0.0, 2.0))
    mean = x.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, _uniform(x, 0.5, 1.5))


def _translation(x: Tensor) -> Tensor:
    count, _, height, width = x.shape
    down, right = int(height / 8 + 0.5), int(width / 8 + 0.5)
    padded = F.pad(x, (right, right, down, down))
    rows = _whole(x, 2 * down + 1) + torch.arange(height, device=x.device)
    columns = _whole(x, 2 * right + 1) + torch.arange(width, device=x.device)
    samples = torch.arange(count, device=x.device)[:, None, None]
    # Indexing puts the indexed dimensions first: (N, H, W, C).
    return padded[samples, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cutout(x: Tensor) -> Tensor:
    def outside(size: int) -> Tensor:  # (N, size)
        half = max(1, size // 2)
        # The centre lies anywhere, so that a part of the square may lie outside the image.
        first = _whole(x, size + (1 - half % 2)) - half // 2
        places = torch.arange(size, device=x.device)
        return (places < first) | (places >= first + half)

    rows, columns = outside(x.shape[2]), outside(x.shape[3])
    return x * (rows[:, None, :, None] | columns[:, None, None, :]).to(x.dtype)


_POLICIES: dict[str, Callable[[Tensor], Tensor]] = {"color": _color, "translation": _translation, "cutout": _cutout}
