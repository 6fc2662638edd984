"""How good a generator is: every metric on the same images, with the protocol without which figures mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fastgan import strict_json
from fastgan.data import ImageData, to_uint8
from fastgan.data.checks import check_centred, check_shape, checked_images
from fastgan.data.gather import gather
from fastgan.data.gaussians import Points
from fastgan.metrics.checks import positive
from fastgan.metrics.classifier import Classifier, Described
from fastgan.metrics.frechet import frechet_distance
from fastgan.metrics.kernel import kernel_distance
from fastgan.metrics.modes import class_balance, mixture_modes
from fastgan.metrics.neighbours import density_coverage, memorisation, precision_recall
from fastgan.metrics.path_length import path_length
from fastgan.metrics.sliced_wasserstein import SlicedWasserstein

BATCH = 64  # images generated at once
LEAST = 20  # images of each kind
MOST = 10_000  # samples, unless asked for
MOST_REAL = 50_000  # images of the data
SLICED = 512  # images of each kind, for the sliced Wasserstein distance, as while training
WAYS = 256  # for the path length

METRICS = {  # and what they say; smaller is better where there is no other word
    "frechet": "Frechet distance of features",
    "kernel": "kernel distance (MMD^2) of features",
    "precision": "share of samples among the data, up to 1",
    "recall": "share of the data among samples, up to 1",
    "density": "samples lie where the data are dense, about 1",
    "coverage": "share of the data with a sample near, up to 1",
    "classes_covered": "classes with a sample",
    "class_divergence": "KL of the samples' classes from the data's, nats",
    "novelty": "distance to the nearest data, of other data's: 1 is as new",
    "copies": "share nearer to the data than 99 % of other data: 0.01",
    "path_length": "squared change of features along ways of latents, relative",
    "sliced_wasserstein": "sliced Wasserstein distance of pixels, 512 of each",
    "modes_covered": "modes with a sample within 3 deviations",
    "high_quality": "share of samples within 3 deviations of a mode, up to 1",
}
# Of features that know nothing of the data: uniform noise had a precision of 0.99 and a density of 1.3.
BLIND = ("precision", "recall", "density", "coverage", "classes_covered", "class_divergence")
NEEDS = {
    "classes_covered": "data with labels and features of a classifier that knows them",
    "path_length": "images, and a system to draw latents from",
    "modes_covered": "points of a mixture, such as ring",
}


@dataclass(frozen=True)
class Scores:
    """values: by metric.   protocol: what they hold for."""

    values: dict[str, float]
    protocol: dict[str, Any]

    def __str__(self) -> str:
        width = max(map(len, [*self.values, *self.protocol]))
        rows = [f"{name:{width}}  {_number(value):>9}  {METRICS[name]}" for name, value in self.values.items()]
        return "\n".join([*rows, "", *(f"{name:{width}}  {value}" for name, value in self.protocol.items())])

    def json(self) -> str:
        """An object of two; what is not finite is null."""
        return strict_json.dumps({"metrics": self.values, "protocol": self.protocol}, indent=2) + "\n"


@torch.no_grad()
def evaluate(
    generator: Any,
    data: Any,
    *,
    samples: int | None = None,
    features: Any = None,
    metrics: Iterable[str] | None = None,
    seed: int = 0,
) -> Scores:
    """How far what `generator` makes is from the data, by all `METRICS` that apply or those named.

        scores = evaluate(fastgan.load("runs/digits"), fastgan.data.load("digits", 32))
        scores = evaluate(images, data)                       # images (N, C, H, W) in [-1, 1]
        scores = evaluate(lambda count: network(torch.randn(count, 100)), data)

    generator: a system, as `fastgan.load` gives; a function of a count that gives as many images; or the images.
    data: what `fastgan.data.Batches` takes: what `fastgan.data.load` gives, images (N, C, H, W), a data set, ...; at
        most 50,000 images of it and 1 GiB, a random choice where there are more.
    samples: as many as there are images in `data`, at most 10,000, by default; of a tensor, all.
    features: a `Classifier`, a `FileFeatures`, or any function of images, (N, C, H, W) uint8 -> (N, D); by default a
        Classifier of the data, trained at the first time. Of points, the points themselves.
    seed: of the latents, directions and ways; the choice of data and the classifier are the same with every seed.

    Generated images are rounded to uint8, as the data are. path_length needs a system, classes need labels. Where a
    Classifier has learned next to nothing of the data (its `blind`), precision, recall, density, coverage and classes
    are left out unless they are named, and the protocol says so.

    Functions of features take the data first: frechet_distance(real=..., fake=...).

    Raises TypeError or ValueError for what does not fit together, or images that are neither uint8 nor in [-1, 1];
    FloatingPointError for generated images that are not finite.
    """
    asked = None if metrics is None else check_metrics(metrics)
    data = gather(data, MOST_REAL)
    real = data.images
    if len(real) < LEAST:
        raise ValueError(f"the data must have at least {LEAST} images, got {len(real)}")
    fake = _fake(generator, samples, data, seed)
    points = isinstance(data, Points)
    check_shape(fake.shape[1:], real.shape[1:], "a generated image", "the data")
    real = real.to(fake.device)
    if points:
        features, kind = _of_points, {"features": "the points"}
    else:
        if features is None:
            labels = data.labels if len(data.classes) > 1 else None
            features = Classifier(real, labels, len(data.classes))
        kind = features.describe() if hasattr(features, "describe") else {"features": "the user's"}
    a, b = _described(features, real), _described(features, fake)

    def way() -> float:
        latents = generator.latent(2 * WAYS, torch.Generator().manual_seed(seed))

        def generated(part: Tensor) -> Tensor:
            return _finite(generator.sample(len(part), latent=part))

        return path_length(generated, latents, lambda images: _described(features, images).features, seed=seed)

    values = _Values(
        frechet=lambda: {"frechet": frechet_distance(a.features, b.features)},
        kernel=lambda: {"kernel": kernel_distance(a.features, b.features)},
        precision=lambda: precision_recall(a.features, b.features)._asdict(),
        density=lambda: density_coverage(a.features, b.features)._asdict(),
        novelty=lambda: dict(zip(("novelty", "copies"), memorisation(a.features, b.features))),
        sliced_wasserstein=lambda: {
            "sliced_wasserstein": SlicedWasserstein(_some(real, seed), seed=seed).distance(_some(fake, seed))
        },
    )
    if a.classes is not None and b.classes is not None:
        found = a.classes, b.classes
        values["classes_covered"] = lambda: dict(
            zip(("classes_covered", "class_divergence"), class_balance(*found, features.classes))
        )
    if hasattr(generator, "latent") and not points:
        values["path_length"] = lambda: {"path_length": way()}
    if isinstance(data, Points):
        centres, deviation = data.centres, data.deviation
        values["modes_covered"] = lambda: dict(
            zip(("modes_covered", "high_quality"), mixture_modes(fake.flatten(1), centres.to(fake), deviation))
        )
    note = {}
    if getattr(features, "blind", False):
        note["note"] = (
            f"the features tell {100 * features.accuracy:.0f} % of held-out images right, chance is "
            f"{100 * features.chance:.0f} %: these figures mean little, and {', '.join(BLIND)} nothing"
        )
        for name in BLIND:
            if asked is None:
                values.pop(name, None)
    return Scores(values.of(asked), {"real": len(real), "generated": len(fake), **kind, **note, "seed": seed})


class _Values(dict[str, Callable[[], dict[str, float]]]):
    """Functions that give one or two metrics, by the first of them."""

    PAIRS: ClassVar[dict[str, str]] = {
        "recall": "precision",
        "coverage": "density",
        "copies": "novelty",
        "class_divergence": "classes_covered",
        "high_quality": "modes_covered",
    }

    def of(self, asked: list[str] | None) -> dict[str, float]:
        names = [name for name in METRICS if self.PAIRS.get(name, name) in self] if asked is None else asked
        found: dict[str, float] = {}
        for name in names:
            first = self.PAIRS.get(name, name)
            if first not in self:
                raise ValueError(f"{name} cannot be had here: it needs {NEEDS[first]}")
            if name not in found:
                found |= self[first]()
        return {name: found[name] for name in names}


def check_metrics(names: Iterable[str]) -> list[str]:
    """ValueError for a name that is no metric's."""
    names = list(names)
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise ValueError(f"no metric {', '.join(unknown) or 'is named'}; accepted: {', '.join(METRICS)}")
    return names


def _fake(generator: Any, samples: int | None, data: ImageData | Points, seed: int) -> Tensor:
    points = isinstance(data, Points)
    if samples is not None:
        positive(samples=samples)
        if samples < LEAST:
            raise ValueError(f"samples must be at least {LEAST}, got {samples}: distances of fewer mean nothing")
    if isinstance(generator, Tensor | np.ndarray):
        images = _stored(generator, points)
        if len(images) < max(LEAST, samples or 0):
            raise ValueError(f"{samples or LEAST} images or more are needed, got shape {tuple(images.shape)}")
        return images if samples is None else images[:samples]
    samples = samples or min(len(data), MOST)
    sizes = [min(BATCH, samples - start) for start in range(0, samples, BATCH)]
    if hasattr(generator, "sample"):
        random = torch.Generator().manual_seed(seed)
        if getattr(generator, "classes", 0) and data.labels is not None:  # of each class, as many as the data have
            order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
            labels = data.labels.cpu()[order.repeat(-(-samples // len(data)))[:samples]]
            turns = [turn.to(generator.device) for turn in labels.split(BATCH)]
            parts = (generator.sample(size, generator=random, labels=turn) for size, turn in zip(sizes, turns))
        else:
            parts = (generator.sample(size, generator=random) for size in sizes)
    elif callable(generator):
        parts = (generator(size) for size in sizes)
    else:
        raise TypeError(f"generator must be a system, a function or images, got {type(generator).__name__}")
    made: list[Tensor] = []
    for size, part in zip(sizes, parts):
        if not isinstance(part, Tensor) or part.dim() != 4 or len(part) != size:
            given = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(f"the generator must give images ({size}, C, H, W) when asked for {size}, it gave {given}")
        if hasattr(generator, "sample") and not points:  # a system's images are meant for [-1, 1]
            part = to_uint8(_finite(part).clamp(-1, 1))
        made.append(part)
    return _stored(torch.cat(made), points)


def _finite(images: Tensor) -> Tensor:
    if images.is_floating_point() and not images.isfinite().all():
        raise FloatingPointError("generated images hold NaN or infinity: the generator has diverged")
    return images


def _stored(images: Any, points: bool) -> Tensor:
    """Images as uint8, as the data are; points, which may lie anywhere, as they are."""
    if isinstance(images, Tensor):
        _finite(images)
        if points and images.is_floating_point() and images.dim() == 4:
            return images
    images = checked_images(images, "generated images")
    if images.is_floating_point() and len(images):
        check_centred(float(images.min()), "generated images")
    return to_uint8(images)


def _some(images: Tensor, seed: int) -> Tensor:
    """Data sets have their order, often that of the classes."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order[:SLICED].to(images.device)]


def _of_points(images: Tensor) -> Described:
    return Described(images.flatten(1), None)


def _described(features: Callable[[Tensor], Any], images: Tensor) -> Described:
    found = features(images)
    return Described(found, None) if isinstance(found, Tensor) else found


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
