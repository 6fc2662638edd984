"""Which images make the next batch: a function of the seed and of the place reached, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastgan.data.changes import Changes
from fastgan.data.windows import BITS

WINDOWS = 1024  # in an epoch, at least: a few photographs are batches of any size, and no two are alike


def length(count: int, windows: bool) -> int:
    """Rows of an epoch over `count` pictures: so many; of windows at least WINDOWS, as many of each picture."""
    return count * -(-WINDOWS // count) if windows and count else count


class Chosen(NamedTuple):
    """The rows of one batch, and the place reached once it is used."""

    epoch: int
    position: int  # rows of this epoch used so far, these among them
    indices: Tensor  # (B,) int64
    changes: Changes  # of each row
    seeds: Tensor  # (B,) int64 in 0..2**32-1, for augmentations inside a data set


@dataclass(frozen=True)
class Order:
    """How a data set is divided into batches. `batch_size` counts the images of all processes together."""

    batch_size: int
    seed: int
    drop_last: bool
    rank: int = 0
    ranks: int = 1
    jitter: int = 0  # pixels by which images may be shifted
    windows: bool = False  # whether windows are cut: then an epoch of few pictures has several of each

    def of_group(self, number: int) -> Order:
        """That of a further group of fields: drawn apart, from a seed of its own. Group 0 has this one."""
        if not number:
            return self
        low, high = np.random.SeedSequence([self.seed, number]).generate_state(2, np.uint64)
        return replace(self, seed=int(low) + (int(high) << 64))

    @property
    def rows(self) -> int:
        """Images of a batch that this process yields."""
        return self.batch_size // self.ranks

    def length(self, count: int) -> int:
        """Rows of an epoch over `count` pictures."""
        return length(count, self.windows)

    def choose(self, count: int, epoch: int, position: int, device: torch.device) -> Iterator[Chosen]:
        """Endless batches from (epoch, position) on, every epoch in an order of its own; of each, this process's rows.

        What is chosen does not depend on where the iteration began. The tensors of an epoch move to `device` once.
        """
        least = self.batch_size if self.drop_last else 1
        length = self.length(count)
        while True:
            if length - position >= least:
                order, changes, seeds = self.draw(epoch, length)
                order = order % count if length > count else order
                order, changes, seeds = order.to(device), changes.to(device), seeds.to(device)
                while length - position >= least:
                    first = position + self.rank * self.rows
                    position = min(position + self.batch_size, length)
                    span = slice(first, min(first + self.rows, position))
                    yield Chosen(epoch, position, order[span], changes.of(span), seeds[span])
            epoch, position = epoch + 1, 0

    def draw(self, *place_and_count: int) -> tuple[Tensor, Changes, Tensor]:
        """Order, changes and seeds of `count` rows; *place, such as the epoch, tells one draw from another."""
        *place, count = place_and_count
        # SeedSequence mixes: with a sum, epoch 1 of seed 0 would be epoch 0 of seed 1.
        state = np.random.SeedSequence([self.seed, *place]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        order = torch.randperm(count, generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
        seeds = torch.randint(2**32, (count,), generator=generator)
        shifts = torch.empty(count, 0, dtype=torch.int64)
        if self.jitter:  # last: what is drawn before is the same with it and without
            shifts = torch.randint(self.jitter + 1, (count, 2), generator=generator)
        places = torch.empty(count, 0, dtype=torch.int64)
        if self.windows:
            places = torch.randint(1 << BITS, (count, 2), generator=generator)
        return order, Changes(flips, shifts, places), seeds
