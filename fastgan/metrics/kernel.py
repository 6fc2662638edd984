"""The kernel distance between two sets of features: Binkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs",
2018 (KID, with Inception's features)."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.metrics.checks import checked, positive
from fastgan.metrics.comparison import Comparison

BLOCK = 1 << 18  # kernel values in work at once, as many as a core's cache holds
BLOCK_GPU = 1 << 25


@torch.no_grad()
def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int | None = None, size: int = 1000, seed: int = 0
) -> float:
    """The unbiased estimate of MMD^2 with the kernel (x.y / D + 1)^3.

    real: (N, D), fake: (M, D), floating point, N, M >= 2; the work is done in float64.
    subsets: of `size` samples of each set, drawn by `seed`, over which the paper takes the mean; by default all samples
        are used at once, which has the same expectation and less variance.

    Unlike the Frechet distance it has no bias, whatever N and M; it may be below 0 where the sets are alike.

    Raises TypeError or ValueError for other features or options.
    """
    real, fake = checked(real=real, fake=fake)
    if subsets is None:
        return _squared(real, fake).item()
    positive(subsets=subsets, size=size)
    if not 2 <= size <= min(len(real), len(fake)):
        raise ValueError(f"subsets of {size} cannot be taken of {len(real)} real and {len(fake)} generated samples")
    random = torch.Generator().manual_seed(seed)

    def drawn(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=random)[:size].to(features.device)]

    return torch.stack([_squared(drawn(real), drawn(fake)) for _ in range(subsets)]).mean().item()


def compare(compared: Comparison) -> float:
    return kernel_distance(*compared.features)


def _squared(real: Tensor, fake: Tensor) -> Tensor:
    n, m = len(real), len(fake)
    within = (_sum(real, real) - _kernel(real.square().sum(1), real).sum()) / (n * (n - 1))
    within += (_sum(fake, fake) - _kernel(fake.square().sum(1), fake).sum()) / (m * (m - 1))
    return within - 2 * _sum(real, fake) / (n * m)


def _sum(a: Tensor, b: Tensor) -> Tensor:
    block = BLOCK if a.device.type == "cpu" else BLOCK_GPU
    return torch.stack([_kernel(part @ b.t(), a).sum() for part in a.split(max(1, block // len(b)))]).sum()


def _kernel(products: Tensor, features: Tensor) -> Tensor:
    return (products / features.shape[1] + 1) ** 3
