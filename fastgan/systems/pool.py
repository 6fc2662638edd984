"""A history of generated pictures, from which a discriminator is shown some instead of the newest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fastgan.random import current


class ImagePool(nn.Module):
    """The last generated pictures that were not given back (Shrivastava et al., "Learning from Simulated and
    Unsupervised Images through Adversarial Training", 2017; CycleGAN keeps 50, SimGAN 25,600).

        shown = pool(fake)     # (N, ...) -> (N, ...), detached

    Until it is full each picture is stored and given back. Then each is, with probability `share`, exchanged: an old
    one is given back, and the new one takes its place. No two of a batch are exchanged for the same old one; of a batch
    larger than the pool, the rest is given back as it is.

    size: pictures it holds; 0: it gives back what it is given.   shape: of one, such as (C, H, W).

    Its state is in buffers and its random numbers are the run's, so that a step that contains it can be recorded as a
    CUDA graph, and a resumed run goes on with the same history. Each process of a distributed run has its own.
    """

    images: Tensor  # (size + 1, *shape): the last row takes what is not kept
    filled: Tensor  # () int64

    def __init__(self, size: int, shape: Sequence[int], share: float = 0.5) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise ValueError(f"size must be an integer of at least 0, not {size!r}")
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie in [0, 1], not {share}")
        self.size = size
        self.share = share
        self.register_buffer("images", torch.zeros(size + 1, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, fresh: Tensor) -> Tensor:
        fresh = fresh.detach()
        if not self.size or not len(fresh):
            return fresh
        if fresh.shape[1:] != self.images.shape[1:]:
            raise ValueError(
                f"the pool holds pictures of shape {tuple(self.images.shape[1:])}, not {tuple(fresh.shape[1:])}"
            )
        device, generator = self.images.device, current(self.images.device)
        count = min(len(fresh), self.size)
        numbers = torch.arange(count, device=device)
        new = numbers + self.filled  # places for those that are stored while there is room
        stored = new < self.size
        # The full places in a random order; those that are not full come last.
        keys = torch.rand(self.size, device=device, generator=generator)
        order = (keys + (torch.arange(self.size, device=device) >= self.filled)).argsort()[:count]
        drawn = torch.rand(count, device=device, generator=generator) < self.share
        exchanged = ~stored & drawn & (order < self.filled)
        shape = (-1, *[1] * (fresh.dim() - 1))
        old = self.images[order].to(fresh.dtype)
        shown = torch.cat([torch.where(exchanged.view(shape), old, fresh[:count]), fresh[count:]])
        places = torch.where(stored, new, torch.where(exchanged, order, self.size))
        self.images.index_copy_(0, places, fresh[:count].to(self.images.dtype))
        self.images[self.size].zero_()
        self.filled.add_(count).clamp_(max=self.size)
        return shown

    def extra_repr(self) -> str:
        return f"{self.size}, {tuple(self.images.shape[1:])}, share={self.share}"
