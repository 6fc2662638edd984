"""How well a new discriminator tells patches of generated pictures from real ones: a two-sample test by a classifier
(Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", 2017)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan.data.checks import check_shape
from fastgan.metrics.classifier import one_thread, scaled
from fastgan.metrics.comparison import Comparison
from fastgan.networks.refiner import local_discriminator
from fastgan.random import private

WIDTH = 24  # channels of its first layer
STEPS, LOOK, BATCH, RATE = 120, 40, 32, 2e-3  # updates, between looks, pictures of each kind, Adam's
HELD_OUT, MOST = 0.2, 2000  # share of the pictures that it is not trained on; pictures of each kind
CHUNK = 64  # pictures in work at once


def patch_divergence(real: Tensor, fake: Tensor, *, seed: int = 0) -> float:
    """An estimate from below of the Jensen-Shannon divergence of patches of 23x23 pixels, in nats: log 2 = 0.69 where
    every patch is told, about 0 where none is.

    real: (N, C, H, W), fake: (M, C, H, W), uint8, N, M >= 20; of the first 2,000 each.   seed: of its weights, batches.

    A discriminator is trained from nothing, always by as many steps, on four fifths of each; its cross entropy H on the
    others gives log 2 - H (Goodfellow et al. 2014, theorem 1), the largest of three looks. So it says nothing of the
    discriminator of a run, which may be at chance because it has learned too little, or was fooled.

    Raises ValueError for pictures of other shapes or too few.
    """
    check_shape(fake.shape[1:], real.shape[1:], "a generated picture", "a real one")
    count = min(len(real), len(fake), MOST)
    if count < 20:
        raise ValueError(f"a discriminator needs at least 20 pictures of each kind to learn from, not {count}")
    kept = count - int(count * HELD_OUT)
    kinds = fake[:count], real[:count]
    with private(seed), one_thread(), torch.enable_grad():
        network = local_discriminator(real.shape[1], WIDTH)
        network.to(real.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        found = []
        for step in range(1, STEPS + 1):
            rows = [torch.randint(kept, (min(BATCH, kept),)).to(real.device) for _ in kinds]
            loss = _cross_entropy(network, [images[row] for images, row in zip(kinds, rows)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % LOOK == 0:
                with torch.no_grad():
                    found.append(math.log(2) - _cross_entropy(network, [images[kept:] for images in kinds]).item())
    return max(found)


def compare(compared: Comparison) -> float:
    return patch_divergence(compared.real, compared.fake)


def _cross_entropy(network: nn.Module, kinds: list[Tensor]) -> Tensor:
    """The mean over the patches of as many pictures of each kind, fake and real."""
    logits = torch.cat([network(scaled(part)) for images in kinds for part in images.split(CHUNK)])
    target = torch.arange(2, device=logits.device).repeat_interleave(len(kinds[0]))
    return F.cross_entropy(logits, target[:, None, None].expand(-1, *logits.shape[2:]))
