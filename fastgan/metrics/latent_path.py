"""How unevenly a generator's images change with its latents: Karras, Laine, Aila, "A Style-Based Generator Architecture
for Generative Adversarial Networks", 2019, section 4.1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastgan.latent import interpolate
from fastgan.metrics.checks import positive
from fastgan.metrics.comparison import Comparison

EPSILON = 1e-2  # of the way between two latents
WAYS = 256  # of a comparison
OUTLIERS = 0.01  # share at either end that the mean leaves out


@torch.no_grad()
def path_length(
    generate: Callable[[Tensor], Tensor],
    latents: Tensor,
    features: Callable[[Tensor], Tensor],
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> float:
    """The mean of |f(g(z(t + e))) - f(g(z(t)))|^2 / e^2, of features divided by their root mean square norm.

    generate: latents (N, ...) -> images.   features: images -> (N, D).
    latents: (2 P, ...), the ends of P ways, P >= 1, spherical ones; on each t is drawn from [0, 1 - e] by `seed`.

    Smaller is smoother; values of one network of features can be compared. Differences from the paper: the features are
    those given, not VGG's, and e is 1e-2 in place of 1e-4, for float32 to tell the two images apart. As in its code, a
    hundredth of the ways at either end is left out.
    """
    positive(batch_size=batch_size)
    if len(latents) < 2 or len(latents) % 2:
        raise ValueError(f"latents must be the ends of ways, an even number of them, not {len(latents)}")
    starts, ends = latents[0::2], latents[1::2]
    steps = round(1 / EPSILON)
    places = torch.randint(steps, (len(starts),), generator=torch.Generator().manual_seed(seed)).to(latents.device)
    rows = torch.arange(len(starts), device=latents.device)
    way = interpolate(starts, ends, steps + 1)
    near, far = way[places, rows], way[places + 1, rows]
    differences, norms = [], []
    for a, b in zip(near.split(batch_size), far.split(batch_size)):
        first, second = features(generate(a)).double(), features(generate(b)).double()
        differences.append((second - first).square().sum(dim=1))
        norms.append(first.square().sum(dim=1))
    lengths = (torch.cat(differences) / torch.cat(norms).mean() / EPSILON**2).sort().values
    cut = int(OUTLIERS * len(lengths))
    return lengths[cut : len(lengths) - cut].mean().item()


def compare(compared: Comparison) -> float:
    assert compared.latents is not None
    assert compared.generate is not None
    return path_length(compared.generate, compared.latents(2 * WAYS), compared.features_of, seed=compared.seed)
