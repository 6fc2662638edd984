"""Losses of a discriminator that names classes, and of its generator: the specification of `fastgan.ops.class_loss`,
its fallback and its test oracle."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan.reference.gan_loss import computed_in, softplus


def loss(
    real: Tensor | None = None,  # [N, K]
    real_labels: Tensor | None = None,  # [N]
    unlabelled: Tensor | None = None,  # [M, K]
    fake: Tensor | None = None,  # [L, K]
    fake_labels: Tensor | None = None,  # [L]
    *,
    player: str,
) -> Tensor:
    """The scalar, differentiable with respect to the logits. Arguments as in `fastgan.ops.class_loss`."""
    given = [x for x in (real, unlabelled, fake) if x is not None]
    dtype = computed_in(*given)
    if player == "generator" and fake is not None and fake_labels is None:
        return softplus(-fake.to(dtype).logsumexp(1)).mean()
    total = torch.zeros((), dtype=dtype, device=given[0].device)
    if real is not None:
        assert real_labels is not None
        total = total + F.cross_entropy(real.to(dtype), real_labels)
    if unlabelled is not None:
        total = total + softplus(-unlabelled.to(dtype).logsumexp(1)).mean() / 2
    if fake is not None and fake_labels is not None:
        total = total + F.cross_entropy(fake.to(dtype), fake_labels)
    elif fake is not None:
        total = total + softplus(fake.to(dtype).logsumexp(1)).mean() / 2
    return total


@torch.no_grad()
def means(
    real: Tensor | None = None,
    real_labels: Tensor | None = None,
    unlabelled: Tensor | None = None,
    fake: Tensor | None = None,
    fake_labels: Tensor | None = None,
) -> Tensor:
    """[4]: accuracy on the real labelled rows, accuracy on the fake ones, D of the unlabelled and of the fake rows."""
    given = [x for x in (real, unlabelled, fake) if x is not None]
    dtype = computed_in(*given)
    values = [torch.full((), float("nan"), dtype=dtype, device=given[0].device)] * 4
    for i, x, labels in ((0, real, real_labels), (1, fake, fake_labels)):
        if x is not None and labels is not None:
            values[i] = (x.detach().argmax(1) == labels).to(dtype).mean()
    for i, x in ((2, unlabelled), (3, fake)):
        if x is not None:
            values[i] = x.detach().to(dtype).logsumexp(1).sigmoid().mean()
    return torch.stack(values)


def class_loss(
    real: Tensor | None = None,
    real_labels: Tensor | None = None,
    unlabelled: Tensor | None = None,
    fake: Tensor | None = None,
    fake_labels: Tensor | None = None,
    *,
    player: str,
) -> tuple[Tensor, Tensor]:
    """The formulas, term by term: loss and means. Arguments as in `fastgan.ops.class_loss`."""
    scalar = loss(real, real_labels, unlabelled, fake, fake_labels, player=player)
    return scalar, means(real, real_labels, unlabelled, fake, fake_labels)
