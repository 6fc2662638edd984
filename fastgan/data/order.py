"""Which images make the next batch: a function of the seed and of the place reached, nothing else."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Chosen(NamedTuple):
    """The images of one batch, and the place reached once it is used."""

    epoch: int
    position: int  # images of this epoch used so far, these among them
    indices: Tensor  # (B,) int64
    flips: Tensor  # (B,) bool, each true with probability 1/2
    seeds: Tensor  # (B,) int64 in 0..2**32-1, for augmentations inside a data set


def choose(
    count: int, batch_size: int, seed: int, drop_last: bool, epoch: int, position: int, device: torch.device
) -> Iterator[Chosen]:
    """Endless batches from (epoch, position) on, every epoch in an order of its own.

    What is chosen does not depend on where the iteration began. The tensors of an epoch move to `device` once.
    """
    least = batch_size if drop_last else 1
    while True:
        if count - position >= least:
            order, flips, seeds = (drawn.to(device) for drawn in _draw(seed, epoch, count))
            while count - position >= least:
                span = slice(position, min(position + batch_size, count))
                position = span.stop
                yield Chosen(epoch, position, order[span], flips[span], seeds[span])
        epoch, position = epoch + 1, 0


def _draw(seed: int, epoch: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    # SeedSequence mixes: with a sum, epoch 1 of seed 0 would be epoch 0 of seed 1.
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0]))
    order = torch.randperm(count, generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    seeds = torch.randint(2**32, (count,), generator=generator)
    return order, flips, seeds
