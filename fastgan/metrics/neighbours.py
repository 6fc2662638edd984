"""Metrics of nearest neighbours: how much of the samples looks like data, how much of the data is sampled, and whether
samples are copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.metrics.checks import checked, positive
from fastgan.metrics.comparison import Comparison

BLOCK = 1 << 18  # distances in work at once: what a core's cache holds is several times as fast
BLOCK_GPU = 1 << 25
ROUNDING = 1e-12  # of squared norms: a squared distance below is 0
USUAL = 0.01  # the share of other pictures that are nearer to the training data than a copy is


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    density: float
    coverage: float


class Memorisation(NamedTuple):
    ratio: float
    copies: float


@torch.no_grad()
def nearest(queries: Tensor, points: Tensor, k: int = 1, *, same: bool = False) -> tuple[Tensor, Tensor]:
    """The Euclidean distances of each query to its k nearest points, and their indices: (N, k) each, nearest first.

    queries: (N, D), points: (M, D), floating point, worked on in float64 and in blocks, so that N x M may be large.
    same: queries and points are one set, in which a point is no neighbour of itself.

    Raises TypeError or ValueError for other features, or fewer than k points.
    """
    positive(k=k)
    queries, points = checked(1, queries=queries, points=points)
    return _nearest(queries, points, k, same)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """The share of fake samples among the data, and of the data among fake samples (Kynkaanniemi, Karras, Laine,
    Lehtinen, Aila, "Improved Precision and Recall Metric for Assessing Generative Models", 2019).

    A point is among a set where it is as near to one of the set's points as that one's k-th neighbour in the set.

    real: (N, D), fake: (M, D), N, M > k; floating point, worked on in float64.

    Raises TypeError or ValueError for other features or k.
    """
    real, fake = _two(real, fake, k)
    precision = (_balls(real, fake, k)[0] > 0).double().mean()
    recall = (_balls(fake, real, k)[0] > 0).double().mean()
    return PrecisionRecall(precision.item(), recall.item())


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> DensityCoverage:
    """How densely fake samples lie where the data do, and the share of the data that has one near (Naeem, Oh, Uh, Choi,
    Yoo, "Reliable Fidelity and Diversity Metrics for Generative Models", 2020).

    Of each real point a ball reaches to its k-th neighbour. density: the balls that a fake sample lies in, divided by
    k, 1 on average where the two distributions are one. coverage: the share of balls with a fake sample.

    real: (N, D), fake: (M, D), N, M > k; floating point, worked on in float64.

    Raises TypeError or ValueError for other features or k.
    """
    real, fake = _two(real, fake, k)
    inside, reached = _balls(real, fake, k)
    return DensityCoverage(inside.double().mean().item() / k, reached.double().mean().item())


@torch.no_grad()
def memorisation(train: Tensor, fake: Tensor, held_out: Tensor | None = None) -> Memorisation:
    """Whether samples are copies of training data, by distances to the nearest of these.

    train: (N, D), fake: (M, D), held_out: (L, D) of the same data but not trained on; floating point, worked on in
    float64. Without held_out, each training sample is compared with all others, which it has not seen either.

    ratio: the median distance of fake samples, divided by that of held-out ones: 1 where they are as new as these, less
    where they are nearer to the training data. copies: the share of fake samples that are nearer to the training data
    than all but 1 % of the held-out ones. (Meehan, Chaudhuri, Dasgupta, "A Non-Parametric Test to Detect Data-Copying
    in Generative Models", 2020, compare the same distances.)

    Raises TypeError or ValueError for other features.
    """
    train, fake = checked(train=train, fake=fake)
    if held_out is None:
        usual = _nearest(train, train, 1, True)[0][:, 0]
    else:
        (usual_features,) = checked(held_out=held_out)
        usual = _nearest(usual_features, train, 1, False)[0][:, 0]
    found = _nearest(fake, train, 1, False)[0][:, 0]
    median = _quantile(usual, 0.5)
    ratio = _quantile(found, 0.5) / median if median > 0 else torch.ones_like(median)
    copies = (found < _quantile(usual, USUAL)).double().mean()
    return Memorisation(ratio.item(), copies.item())


def precision(compared: Comparison) -> float:
    return compared.once(precision_recall, *compared.features).precision


def recall(compared: Comparison) -> float:
    return compared.once(precision_recall, *compared.features).recall


def density(compared: Comparison) -> float:
    return compared.once(density_coverage, *compared.features).density


def coverage(compared: Comparison) -> float:
    return compared.once(density_coverage, *compared.features).coverage


def novelty(compared: Comparison) -> float:
    return compared.once(memorisation, *compared.features).ratio


def copies(compared: Comparison) -> float:
    return compared.once(memorisation, *compared.features).copies


def _two(real: Tensor, fake: Tensor, k: int) -> list[Tensor]:
    positive(k=k)
    return checked(k + 1, real=real, fake=fake)


def _balls(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Of each query, in how many of the points' balls it lies; of each point, whether a query lies in its ball."""
    radii = _nearest(points, points, k, True)[0][:, -1]
    counts = []
    reached = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for _, squared in _blocks(queries, points):
        inside = squared <= radii.square()
        counts.append(inside.sum(dim=1))
        reached |= inside.any(dim=0)
    return torch.cat(counts), reached


@torch.no_grad()
def _nearest(queries: Tensor, points: Tensor, k: int, same: bool) -> tuple[Tensor, Tensor]:
    if len(points) - same < k:
        raise ValueError(f"{k} neighbours need as many points, not {len(points)}{' with the point itself' * same}")
    distances, indices = [], []
    for rows, squared in _blocks(queries, points):
        if same:
            squared[torch.arange(len(rows), device=rows.device), rows] = torch.inf
        found = squared.topk(k, dim=1, largest=False)
        distances.append(found.values.sqrt())
        indices.append(found.indices)
    return torch.cat(distances), torch.cat(indices)


def _blocks(queries: Tensor, points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of queries and their squared distances to all points, block by block."""
    centre = points.mean(dim=0)
    points = points - centre
    norms = points.square().sum(dim=1)
    block = BLOCK if points.device.type == "cpu" else BLOCK_GPU
    for rows in torch.arange(len(queries), device=queries.device).split(max(1, block // len(points))):
        part = queries[rows] - centre
        sums = part.square().sum(dim=1)[:, None] + norms
        squared = torch.addmm(sums, part, points.t(), alpha=-2)
        # Of duplicates nothing but rounding is left.
        yield rows, torch.where(squared > ROUNDING * sums, squared, 0)


def _quantile(values: Tensor, share: float) -> Tensor:
    """torch.quantile refuses more than 2^24 values; the nearest rank below needs no interpolation."""
    return values.sort().values[int(share * (len(values) - 1))]
