"""Labelled pictures that a trained system makes, to train something else on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastgan.data.fields import Images
from fastgan.data.fitting import fitted
from fastgan.data.gather import gather
from fastgan.data.images import ImageData
from fastgan.systems import Generative, System, Translator

AT_ONCE = 64  # pictures
MOST = 50_000  # of the data


class OfClass(NamedTuple):
    """Some pictures of one class."""

    images: Tensor  # (N, C, H, W) in [-1, 1], on the CPU
    label: int
    name: str


def augment(system: System, per_class: int, source: Any = None, *, seed: int = 0) -> Iterator[OfClass]:
    """`per_class` pictures of every class, at most 64 at once, class after class.

    system: one that is conditional, such as acgan, which draws them; or one that translates without pairs, such as
        simgan, which refines pictures of its first direction and leaves them their labels.
    source: for the latter, what `fastgan.data.load` gives, with labels.   seed: of the latents.
    ValueError for other systems, for data without labels, and for a class with fewer pictures than are asked for.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, not {per_class}")
    if isinstance(system, Generative):
        return _drawn(system, per_class, source, seed)
    if isinstance(system, Translator) and not system.paired and not system.takes:
        return _translated(system, per_class, source)
    raise ValueError(f"{system.name} makes no pictures of a class: train acgan, or simgan on labelled pictures")


def _drawn(system: Generative, per_class: int, source: Any, seed: int) -> Iterator[OfClass]:
    if not system.classes or system.makes != "image":
        raise ValueError(
            f"the samples of {system.name} have no classes: train a conditional system, as fastgan train acgan, on "
            "data with labels"
        )
    if source is not None:
        raise ValueError(f"{system.name} draws its pictures from random numbers: it takes no data to translate")
    names = system.class_names or tuple(map(str, range(system.classes)))

    def parts() -> Iterator[OfClass]:
        generator = torch.Generator().manual_seed(seed)
        for label, name in enumerate(names):
            for start in range(0, per_class, AT_ONCE):
                count = min(AT_ONCE, per_class - start)
                labels = torch.full((count,), label, device=system.device)
                yield OfClass(system.sample(count, generator=generator, labels=labels).cpu(), label, name)

    return parts()


def _translated(system: Translator, per_class: int, source: Any) -> Iterator[OfClass]:
    if source is None:
        raise ValueError(f"{system.name} translates pictures: give it data with labels")
    data = gather(fitted(source, {"image": Images(*system.image_shape)}), MOST)
    if not isinstance(data, ImageData) or data.labels is None or not data.classes:
        raise ValueError(f"{data.name} has no labels that its pictures could keep: give pictures in a folder a class")
    rows = [(data.labels == label).nonzero().flatten() for label in range(len(data.classes))]
    for name, found in zip(data.classes, rows):
        if len(found) < per_class:
            raise ValueError(
                f"{data.name} has {len(found)} pictures of class {name}: per_class is at most that, not {per_class}"
            )

    def parts() -> Iterator[OfClass]:
        for label, found in enumerate(rows):
            for part in found[:per_class].split(AT_ONCE):
                made = system.translate(data.images[part].float() / 127.5 - 1)
                yield OfClass(made.cpu(), label, data.classes[label])

    return parts()
