"""The classifier of benchmarks/refinement.py and benchmarks/augmentation.py: one small network, trained alike on
whatever it is given."""

from __future__ import annotations

import math
import statistics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.data.pictures import to_float

BATCH, RATE = 64, 2e-3
TURN, ZOOM, SHIFT = 15.0, 0.1, 0.1  # classical augmentation: degrees, share of the size, share of the side


def network(channels: int, side: int, classes: int) -> nn.Sequential:
    """(N, channels, side, side) -> (N, classes): three convolutions with batch norm, mean over the map."""
    layers: list[nn.Module] = []
    for before, after in ((channels, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU(True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * (side // 8) ** 2, classes))


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture turned, scaled and shifted a little, the background around it black: (N, C, H, W) in [-1, 1]."""
    turn, zoom, right, down = (torch.rand(4, len(images), generator=generator) * 2 - 1).unbind()
    turn, zoom = turn * math.radians(TURN), 1 + zoom * ZOOM
    rows = (
        torch.stack([zoom * turn.cos(), -zoom * turn.sin(), 2 * SHIFT * right], 1),
        torch.stack([zoom * turn.sin(), zoom * turn.cos(), 2 * SHIFT * down], 1),
    )
    places = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, places, align_corners=False) - 1


def accuracy(
    sources: list[tuple[Tensor, Tensor]], test: tuple[Tensor, Tensor], *, classes: int, seed: int, steps: int,
    classical: bool = False,
) -> float:  # fmt: skip
    """The share of `test` that a new network tells right after so many steps.

    sources, test: uint8 images (N, C, H, W) with labels (N,). Of several sources each gives the same share of every
    batch.   classical: `moved`. Nothing is chosen by the test.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, labels = test
    model = network(images.shape[1], images.shape[2], classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps):
        rows = [torch.randint(len(source[1]), (BATCH // len(sources),), generator=generator) for source in sources]
        x = torch.cat([to_float(source[0][row]) for source, row in zip(sources, rows)])
        y = torch.cat([source[1][row] for source, row in zip(sources, rows)])
        loss = F.cross_entropy(model(moved(x, generator) if classical else x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = [model(to_float(part)).argmax(1) == of for part, of in zip(images.split(250), labels.split(250))]
    return torch.cat(right).float().mean().item()


def spread(values: list[float]) -> str:
    """The mean of shares over seeds, and their standard deviation."""
    return f"{statistics.mean(values):.1%} +- {statistics.stdev(values) if len(values) > 1 else 0.0:.1%}"
