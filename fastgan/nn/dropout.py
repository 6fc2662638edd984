"""Dropout whose random numbers are the run's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastgan.random import current


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, which in a run of `fastgan.Trainer` draws from the run's generator instead of torch's global
    one, whose numbers belong to all threads. The same numbers for the same state of a generator."""

    def forward(self, input: Tensor) -> Tensor:
        generator = current(input.device) if self.training and 0 < self.p < 1 and input.numel() else None
        if generator is None:
            return super().forward(input)
        if input.is_cuda and not self.inplace:  # one kernel, as F.dropout is
            return torch._fused_dropout(input, 1 - self.p, generator=generator)[0]
        kept = torch.empty_like(input).bernoulli_(1 - self.p, generator=generator).div_(1 - self.p)
        return input.mul_(kept) if self.inplace else input * kept
