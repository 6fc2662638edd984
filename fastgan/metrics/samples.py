"""Samples of a generator, brought to the form in which the data lie: uint8 images, or points. Only here is it asked
which of the two they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.data import to_uint8
from fastgan.data.checks import check_centred, check_shape, checked_images
from fastgan.metrics.checks import positive

BATCH = 64  # samples generated at once
LEAST = 20  # of each kind
MOST = 10_000  # samples, unless asked for


def are_points(samples: Tensor) -> bool:
    """Whether these are points (N, D), and not images."""
    return samples.is_floating_point() and samples.dim() == 2


def as_images(samples: Tensor) -> Tensor:
    """Points (N, D) as images of one pixel; images as they are."""
    return samples[:, :, None, None] if samples.dim() == 2 else samples


def finite(samples: Tensor, what: str = "generated images") -> Tensor:
    """The same. FloatingPointError where a value is not finite."""
    if samples.is_floating_point() and not samples.isfinite().all():
        raise FloatingPointError(f"{what} hold NaN or infinity: the generator has diverged")
    return samples


def like(real: Tensor, samples: Any, what: str = "generated images", *, clamp: bool = False) -> Tensor:
    """Samples in the form of the data: points (N, D) as they are, which may lie anywhere, images rounded to uint8.

    clamp: images of a system, which are meant for [-1, 1] and may overshoot. Of others, whose range has to be guessed,
    TypeError or ValueError where they are neither uint8 nor in [-1, 1]; FloatingPointError for what is not finite.
    """
    if isinstance(samples, Tensor) and samples.is_floating_point():
        finite(samples, what)
        if are_points(real) and are_points(samples):
            return samples
        if clamp:
            return to_uint8(samples.clamp(-1, 1))
    samples = checked_images(samples, what)
    if samples.is_floating_point() and len(samples):
        check_centred(float(samples.min()), what)
    return to_uint8(samples)


def drawn(generator: Any, real: Tensor, labels: Tensor | None, samples: int | None, seed: int) -> Tensor:
    """`samples` of them, in the form of the data. What a generator is, and the errors: `fastgan.metrics.evaluate`.

    labels: of the data; of a system that takes classes, as many samples are drawn of each as the data have.
    """
    if samples is not None:
        positive(samples=samples)
        if samples < LEAST:
            raise ValueError(f"samples must be at least {LEAST}, not {samples}: distances of fewer mean nothing")
    if isinstance(generator, Tensor | np.ndarray):
        given = like(real, generator)
        if len(given) < max(LEAST, samples or 0):
            raise ValueError(f"{samples or LEAST} images or more are needed, not shape {tuple(given.shape)}")
        return _fitting(given if samples is None else given[:samples], real)
    samples = samples or min(len(real), MOST)
    sizes = [min(BATCH, samples - start) for start in range(0, samples, BATCH)]
    of_system = hasattr(generator, "sample")
    if of_system:
        parts = _sampled(generator, sizes, labels, seed)
    elif callable(generator):
        parts = (generator(size) for size in sizes)
    else:
        raise TypeError(f"generator must be a system, a function or images, not {type(generator).__name__}")
    made: list[Tensor] = []
    for size, part in zip(sizes, parts):
        if not isinstance(part, Tensor) or part.dim() not in (2, 4) or len(part) != size:
            what = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(f"the generator must give images ({size}, C, H, W) when asked for {size}, it gave {what}")
        made.append(like(real, part, clamp=True) if of_system else part)
    return _fitting(like(real, torch.cat(made)), real)


def _sampled(system: Any, sizes: list[int], labels: Tensor | None, seed: int) -> Iterator[Tensor]:
    random = torch.Generator().manual_seed(seed)
    if not getattr(system, "classes", 0) or labels is None:
        return (system.sample(size, generator=random) for size in sizes)
    count = sum(sizes)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    turns = labels.cpu()[order.repeat(-(-count // len(labels)))[:count]].split(BATCH)
    return (system.sample(size, generator=random, labels=turn.to(system.device)) for size, turn in zip(sizes, turns))


def _fitting(samples: Tensor, real: Tensor) -> Tensor:
    check_shape(samples.shape[1:], real.shape[1:], "a generated image", "the data")
    return samples
