"""Numbers that tell how a system is, of a few rows: what `System.signs` gives, as scalars on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from fastgan.systems.translator import Example, Translator

NOISE = 2.0  # gray levels, the deviation of noise that nobody sees


@torch.no_grad()
def diversity(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """How much samples differ, beside how much as many training images do; 1: as much.

    spread: the mean distance of two samples.   nearest: the median distance to the nearest other sample of the batch.
    Distances are those of images shrunk to 8x8, where it is shapes and colours that differ, not noise.

    real, fake: (N, C, H, W), or points (N, D). Nothing where one of them is a single one, which differs from no other.
    """
    count = min(len(real), len(fake))
    if count < 2:
        return {}
    features = [_shrunk(images[:count]) for images in (real, fake)]
    values = []
    for rows in features:
        distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        others = distances + torch.diag(torch.full((count,), torch.inf, device=rows.device))
        values.append((distances.sum() / (count * (count - 1)), others.amin(1).median()))
    (spread, nearest), (fake_spread, fake_nearest) = values
    tiny = torch.finfo(spread.dtype).tiny
    return {"spread": fake_spread / spread.clamp(min=tiny), "nearest": fake_nearest / nearest.clamp(min=tiny)}


@torch.no_grad()
def change(example: Example, made: Tensor, wanted: Tensor) -> Tensor | None:
    """How far translations are from what went in, as a share of how far what is wanted is: near 0, they are copies.

    made: of the example.   wanted: its truth, or other pictures of the domain.   L1, in its region where it has one.
    None for pictures of another size than what goes in.
    """
    given = example.images
    if given.shape[2:] != made.shape[2:] or wanted.shape != made.shape or given.shape[1] not in (1, made.shape[1]):
        return None
    where = 1.0 if example.region is None else example.region.to(made)
    moved, away = ((where * (images.float() - given)).abs().sum() for images in (made, wanted))
    return moved / away.clamp(min=torch.finfo(away.dtype).tiny)


@torch.no_grad()
def hiding(system: Translator, example: Example, made: Tensor, back: str) -> dict[str, Tensor]:
    """The error after both ways, L1 in [0, 1], and what it is where the picture between is rounded to 8 bits and has
    noise of two gray levels: more, where it is restored from what nobody sees in that picture (Chu, Zhmoginov, Sandler,
    "CycleGAN, a Master of Steganography", 2017)."""
    noise = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made.device)
    levels = (made.float().clamp(-1, 1) + 1) * 127.5 + NOISE * noise
    seen = levels.round().clamp(0, 255) / 127.5 - 1
    return {
        name: (system.translate(between.to(made.dtype), back).float() - example.images).abs().mean() / 2
        for name, between in (("cycle", made), ("noisy_cycle", seen))
    }


def _shrunk(images: Tensor) -> Tensor:
    if images.dim() == 2:  # points
        return images.float()
    height, width = images.shape[2:]
    return F.adaptive_avg_pool2d(images.float(), (min(8, height), min(8, width))).flatten(1)
