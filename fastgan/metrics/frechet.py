"""The Frechet distance between two sets of features: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs Trained
by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017 (FID, with Inception's features)."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.metrics.checks import checked
from fastgan.metrics.comparison import Comparison

ROWS = 4096  # of features in work at once


@torch.no_grad()
def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), of the means and covariances of the two sets.

    real: (N, D), fake: (M, D), floating point, N, M >= 2; the work is done in float64.   ->   0 for equal sets

    It falls with N and M, most where they are less than D: compare values of equal numbers of samples only.

    With C1 = R1' R1 and C2 = R2' R2 the last trace is the sum of the singular values of R1 R2'. Nothing is squared and
    no root is taken of what rounding made negative: singular covariances (N <= D, constant features) need no care.

    Raises TypeError or ValueError for other features.
    """
    (mean1, root1), (mean2, root2) = (_moments(features) for features in checked(real=real, fake=fake))
    cross = torch.linalg.svdvals(root1 @ root2.t()).sum()
    distance = (mean1 - mean2).square().sum() + root1.square().sum() + root2.square().sum() - 2 * cross
    return max(0.0, distance.item())


def compare(compared: Comparison) -> float:
    return frechet_distance(*compared.features)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,), and R (at most D, D) with R' R the unbiased covariance."""
    mean = features.mean(dim=0)
    root = features.new_empty(0, features.shape[1])
    for part in features.split(max(ROWS, 2 * features.shape[1])):
        rows = torch.cat([root, part - mean])
        root = torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows
    return mean, root / (len(features) - 1) ** 0.5
