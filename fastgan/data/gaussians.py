"""`ring` and `grid`: points of the plane from a mixture of Gaussians, on which it shows which modes a GAN drops.

As in Srivastava et al., "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning", 2017, scaled into
[-1, 1]: there the ring has radius 1 and deviation 0.01, the grid spacing 2 and deviation 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan.data.fields import Field, Labels, Vectors
from fastgan.data.size import Size

COUNT = 10_000  # points of a set


@dataclass(frozen=True, eq=False)
class Points:
    """Points of the plane: vectors of two numbers, each of the mode that is its label.

    points: (N, 2) float32 in [-1, 1].   labels: (N,) int64, the mode of each.   centres: (K, 2) float32, of the modes.
    deviation: of each mode, in each dimension.
    """

    points: Tensor
    labels: Tensor
    centres: Tensor
    deviation: float
    name: str
    captions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        """Without the coordinates."""
        return f"Points({self.name!r}, {len(self)} points of {len(self.centres)} modes)"

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(f"mode {number}" for number in range(len(self.centres)))

    @property
    def fields(self) -> dict[str, Field]:
        return {"vector": Vectors(2), "label": Labels(self.classes)}

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.fields),)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The values of every field, a row each."""
        return {"vector": self.points, "label": self.labels}

    def adapted(self, wanted: Mapping[str, Field]) -> Any:
        """The same points, or their labels alone. ValueError for vectors of another size."""
        from fastgan.data.source import Tensors, check_as_wanted

        check_as_wanted(self.name, self.fields, wanted)
        if "vector" in wanted:
            return self
        return Tensors(self.name, {name: self.tensors[name] for name in wanted}, self.classes)

    def resize(self, resolution: Size, fit: str = "crop") -> Points:
        return self._only("resolution", resolution, 1)

    def with_channels(self, channels: int) -> Points:
        return self._only("channels", channels, 2)

    def _only(self, name: str, given: Any, own: int) -> Points:
        if given != own:
            raise ValueError(
                f"{self.name} is a set of points of the plane, for systems with resolution=1 and channels=2, such as "
                f"gan: {name} must be {own}, not {given}"
            )
        return self


def ring() -> Points:
    """10,000 points, 8 modes on a circle of radius 0.8, deviation 0.008."""
    angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    return _mixture("ring", 0.8 * torch.stack([angles.cos(), angles.sin()], dim=1), 0.008)


def grid() -> Points:
    """10,000 points, 25 modes on a square grid from -0.8 to 0.8, spacing 0.4, deviation 0.01."""
    line = torch.linspace(-0.8, 0.8, 5, dtype=torch.float64)
    return _mixture("grid", torch.cartesian_prod(line, line), 0.01)


def _mixture(name: str, centres: Tensor, deviation: float) -> Points:
    """The same points every time, as many of each mode."""
    labels = torch.arange(COUNT) % len(centres)
    noise = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = centres[labels] + deviation * noise
    return Points(points.float(), labels, centres.float(), deviation, name)
