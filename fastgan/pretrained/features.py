"""A network of features, frozen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Features(nn.Module):
    """Maps and descriptions of pictures by a network that is trained already, frozen, in eval mode.

    name: for protocols.   stages: modules that follow one another; the result of each is a map.   layers: their names.
    described: the layers whose means describe a picture; none: all.   side: pixels a side to which pictures are brought
    before they are described, as the network was trained on; none: as they are.   least: pixels a side that it needs.
    """

    def __init__(
        self,
        name: str,
        stages: nn.Sequential,
        layers: Sequence[str],
        *,
        described: Sequence[str] = (),
        side: int | None = None,
        least: int = 1,
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = tuple(layers)
        self.stages = stages
        self.described = tuple(described) or self.layers
        self.side = side
        self.least = least
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Features:
        """Stays in eval mode, whatever contains it."""
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 1 or 3, H, W) in [-1, 1] -> the maps of `layers`, (N, C, H', W') each. Differentiable in the images."""
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must be (N, 1 or 3, H, W), not {tuple(images.shape)}")
        if min(images.shape[2:]) < self.least:
            raise ValueError(
                f"{self.name} looks at pictures of at least {self.least} pixels a side, not {tuple(images.shape[2:])}"
            )
        values = images.expand(-1, 3, -1, -1)
        maps = []
        for stage in self.stages:
            values = stage(values)
            maps.append(values)
        return maps

    @torch.no_grad()
    def describe(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) in [-1, 1] -> (N, D): the means over space of the maps of `described`."""
        if self.side is not None and images.dim() == 4:
            size = (self.side, self.side)
            images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        maps = dict(zip(self.layers, self(images)))
        return torch.cat([maps[layer].mean((2, 3)) for layer in self.described], dim=1)


class Normalize(nn.Module):
    """Pictures in [-1, 1] with the mean and deviation of each channel that a network was trained with.

    mean, deviation: of red, green and blue, of pictures in [0, scale].
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float], scale: float = 1.0) -> None:
        super().__init__()
        device = torch.device("cpu")  # whatever the default is now: it follows the weights, which are read there
        half = scale / 2
        self.register_buffer("mean", torch.tensor(mean, device=device).view(3, 1, 1) / half - 1)
        self.register_buffer("deviation", torch.tensor(deviation, device=device).view(3, 1, 1) / half)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation
