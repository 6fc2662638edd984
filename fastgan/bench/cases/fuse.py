"""What `fuse` itself costs: its time on a network of two hundred modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

import fastgan
from fastgan.bench.timing import WrongResult


class Residual(nn.Module):
    """The block of ResNet and CycleGAN generators."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        return x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))


@dataclass(frozen=True)
class FuseCase:
    """fastgan.fuse and unfuse of a chain of residual blocks, each with a forward to trace."""

    blocks: int = 35

    def __str__(self) -> str:
        return f"fuse and unfuse, {self.blocks} residual blocks"

    @property
    def facts(self) -> dict[str, Any]:
        return {"modules": sum(1 for _ in self.network().modules())}

    def network(self) -> nn.Module:
        return nn.Sequential(*(Residual(4) for _ in range(self.blocks)))

    def variants(self) -> dict[str, Callable[[], Any]]:
        network = self.network()
        places = sum(row.kernel != "" for row in fastgan.explain(network))
        if places < self.blocks:
            raise WrongResult(f"{self}: {places} places found")
        return {"fastgan": lambda: fastgan.unfuse(fastgan.fuse(network))}


def cases() -> Iterator[FuseCase]:
    yield FuseCase()
