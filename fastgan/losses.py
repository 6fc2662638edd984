"""GAN losses as objects with `.discriminator(real_logits, fake_logits)` and `.generator(fake_logits, real_logits)`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["NonSaturating"]


@dataclass(frozen=True)
class NonSaturating:
    """Binary cross entropy on logits, with the non-saturating generator (Goodfellow et al. 2014, section 3).

    discriminator: -mean(log sigmoid(real)) - mean(log sigmoid(-fake))        generator: -mean(log sigmoid(fake))

    Logits of any shape, the output of a discriminator without a sigmoid; the result is a scalar. float16 and bfloat16
    logits are computed in float32. An integer or empty tensor raises.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return _cross_entropy(real_logits, "real_logits") + _cross_entropy(fake_logits, "fake_logits", sign=-1)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """`real_logits` has no part in this loss; it is accepted so that every loss is called alike."""
        return _cross_entropy(fake_logits, "fake_logits")


def _cross_entropy(logits: Tensor, name: str, sign: int = 1) -> Tensor:
    if not logits.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, not {logits.dtype}")
    if logits.numel() == 0:
        raise ValueError(f"{name} is empty (shape {tuple(logits.shape)}): the mean over no logits is undefined")
    # Under bfloat16 a confident discriminator's probabilities round to 0 or 1; float64 input keeps its precision.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return -F.logsigmoid(sign * logits).mean()
