"""What a generator makes of the data's parts: classes of images, or the Gaussians of a mixture."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.metrics.checks import checked
from fastgan.metrics.comparison import Comparison

NEAR = 3.0  # standard deviations


class Classes(NamedTuple):
    covered: int
    divergence: float


class Modes(NamedTuple):
    covered: int
    high_quality: float


def class_balance(real: Tensor, fake: Tensor, classes: int) -> Classes:
    """How many classes have a fake sample, and KL(fake || real) of the two histograms in nats (Metz, Poole, Pfau,
    Sohl-Dickstein, "Unrolled Generative Adversarial Networks", 2017; Srivastava et al., "VEEGAN", 2017).

    real: (N,), fake: (M,), integer labels in 0..classes - 1, N, M >= 1, both as one classifier gives them.
    divergence: 0 for equal histograms, at most ln(classes) where the data's classes are equally frequent, infinite
    where a fake sample is of a class without a real one.

    Raises TypeError or ValueError for other labels.
    """
    counts = []
    for name, labels in ("real", real), ("fake", fake):
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
            given = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
            raise TypeError(f"{name} must be a tensor of integer labels, not {given}")
        if labels.dim() != 1 or len(labels) == 0 or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"{name} must be at least one label (N,) in 0..{classes - 1}")
        counts.append(torch.bincount(labels.cpu(), minlength=classes).double() / len(labels))
    p, q = counts
    there = q > 0
    divergence = (q[there] * (q[there] / p[there]).log()).sum()
    return Classes(int(there.sum()), max(0.0, divergence.item()))


def mixture_modes(points: Tensor, centres: Tensor, deviation: float) -> Modes:
    """How many modes of a mixture of Gaussians have a sample within three standard deviations, and the share of samples
    that lie so near to one (Srivastava et al., "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational
    Learning", 2017).

    points: (N, D) samples, centres: (K, D), floating point, N, K >= 1.   deviation: of each mode, in each dimension.

    Raises TypeError or ValueError for others.
    """
    points, centres = checked(1, points=points, centres=centres)
    if not 0 < deviation < math.inf:
        raise ValueError(f"deviation must be a positive number, not {deviation!r}")
    distances, nearest = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    near = distances <= NEAR * deviation
    return Modes(len(nearest[near].unique()), near.double().mean().item())


def classes_covered(compared: Comparison) -> float:
    return _balance(compared).covered


def class_divergence(compared: Comparison) -> float:
    return _balance(compared).divergence


def modes_covered(compared: Comparison) -> float:
    return _modes(compared).covered


def high_quality(compared: Comparison) -> float:
    return _modes(compared).high_quality


def _balance(compared: Comparison) -> Classes:
    assert compared.classes is not None
    return compared.once(class_balance, *compared.classes)


def _modes(compared: Comparison) -> Modes:
    assert compared.mixture is not None
    return compared.once(mixture_modes, compared.fake, *compared.mixture)
