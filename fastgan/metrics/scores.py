"""How good a generator is: every metric on the same images, with the protocol without which figures mean nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastgan import strict_json
from fastgan.data.gather import gather
from fastgan.data.gaussians import Points
from fastgan.metrics import registry
from fastgan.metrics.classifier import Classifier
from fastgan.metrics.comparison import Comparison, Mixture
from fastgan.metrics.pretrained import PretrainedFeatures
from fastgan.metrics.registry import Metric
from fastgan.metrics.samples import LEAST, are_points, drawn, finite
from fastgan.pretrained import Features

MOST_REAL = 50_000  # images of the data


@dataclass(frozen=True)
class Scores:
    """values: by metric.   protocol: what they hold for."""

    values: dict[str, float]
    protocol: dict[str, Any]

    def __str__(self) -> str:
        width = max(map(len, [*self.values, *self.protocol]))
        rows = [
            f"{name:{width}}  {_number(value):>9}  {registry.described(name)}" for name, value in self.values.items()
        ]
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
    """How far what `generator` makes is from the data, by all metrics that apply or those named.

        scores = evaluate(fastgan.load("runs/digits"), fastgan.data.load("digits", 32))
        scores = evaluate(images, data)                       # images (N, C, H, W) in [-1, 1]
        scores = evaluate(lambda count: network(torch.randn(count, 100)), data)

    generator: a system, as `fastgan.load` gives; a function of a count that gives as many images; or the images.
    data: what `fastgan.data.Batches` takes: what `fastgan.data.load` gives, images (N, C, H, W), a data set, ...; at
        most 50,000 images of it and 1 GiB, a random choice where there are more.
    samples: as many as there are images in `data`, at most 10,000, by default; of a tensor, all.
    features: a `Classifier`, a `FileFeatures`, a name or network of `fastgan.pretrained`, or any function of images,
        (N, C, H, W) uint8 -> (N, D); by default a Classifier of the data, trained at the first time. Of points, the
        points themselves.
    metrics: names of `fastgan.metrics.registry.names()`, or their aliases fid and kid, which are FID and KID of the
        literature only where `features` are Inception's, a `FileFeatures`.
    seed: of the latents, directions and ways; the choice of data and the classifier are the same with every seed.

    Generated images are rounded to uint8, as the data are. path_length needs a system, classes need labels. Where a
    Classifier has learned next to nothing of the data (its `blind`), precision, recall, density, coverage and classes
    are left out unless they are named, and the protocol says so.

    Functions of features take the data first: frechet_distance(real=..., fake=...).

    Raises TypeError or ValueError for what does not fit together, or images that are neither uint8 nor in [-1, 1];
    FloatingPointError for generated images that are not finite.
    """
    asked = None if metrics is None else registry.chosen(metrics)
    data = gather(data, MOST_REAL)
    real = data.points if isinstance(data, Points) else data.images
    if len(real) < LEAST:
        raise ValueError(f"the data must have at least {LEAST} images, not {len(real)}")
    fake = drawn(generator, real, data.labels, samples, seed)
    real = real.to(fake.device)
    protocol: dict[str, Any] = {"real": len(real), "generated": len(fake)}
    if are_points(real):
        features = None
        protocol["features"] = "the points"
    elif asked is None or any("features" in metric.needs for metric in asked):
        if features is None:
            labels = data.labels if len(data.classes) > 1 else None
            features = Classifier(real, labels, len(data.classes))
        elif isinstance(features, str | Features):
            features = PretrainedFeatures(features, fake.device)
        protocol |= features.describe() if hasattr(features, "describe") else {"features": "the user's"}
    compared = Comparison(real, fake, seed, features, **_of_system(generator, seed), mixture=_mixture(data, fake))
    if getattr(features, "blind", False):
        protocol["note"] = (
            f"the features tell {100 * features.accuracy:.0f} % of held-out images right, chance is "
            f"{100 * features.chance:.0f} %: these figures mean little, and "
            f"{', '.join(metric.name for metric in registry.metrics() if metric.knowing)} nothing"
        )
    values = {metric.name: metric.compute(compared) for metric in _possible(asked, compared)}
    return Scores(values, {**protocol, "seed": seed})


def _possible(asked: list[Metric] | None, compared: Comparison) -> list[Metric]:
    """Those asked for, ValueError where one cannot be had; by default all that can, mean something, and are quick."""
    if asked is None:
        blind = getattr(compared.network, "blind", False)
        return [
            metric
            for metric in registry.metrics()
            if not metric.named and not (blind and metric.knowing) and not compared.lacks(metric)
        ]
    for metric in asked:
        if lacking := compared.lacks(metric):
            needs = " and ".join(registry.NEEDS[need] for need in lacking)
            raise ValueError(f"{metric.name} cannot be had here: it needs {needs}")
    return asked


def _of_system(generator: Any, seed: int) -> dict[str, Any]:
    """How to draw latents, and images of them, where that can be done."""
    said = {"convergence": generator.convergence()} if hasattr(generator, "convergence") else {}
    if not hasattr(generator, "latent"):
        return said

    def generate(latents: Tensor) -> Tensor:
        return finite(generator.sample(len(latents), latent=latents))

    return said | {
        "latents": lambda count: generator.latent(count, torch.Generator().manual_seed(seed)),
        "generate": generate,
    }


def _mixture(data: Any, fake: Tensor) -> Mixture | None:
    return Mixture(data.centres.to(fake), data.deviation) if hasattr(data, "centres") else None


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
