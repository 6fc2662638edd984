"""How good a system translates pictures: beside the truth where it is known, beside the other domain where it is not,
and always beside what costs nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import strict_json
from fastgan.color import delta_e
from fastgan.data import Batch, take, to_uint8
from fastgan.data.fitting import fitted
from fastgan.data.pictures import to_float
from fastgan.data.source import source_of
from fastgan.metrics import registry
from fastgan.metrics.checks import positive
from fastgan.metrics.comparison import Comparison, Translated
from fastgan.metrics.registry import Metric
from fastgan.metrics.truth import l1, psnr, psnr_y, ssim
from fastgan.pretrained import Features
from fastgan.pretrained import features as pretrained

if TYPE_CHECKING:
    from fastgan.systems import Example, Translator

MOST = 512  # rows, unless asked for
CHUNK = 16  # pictures in work at once
# What is measured unless it is asked for otherwise, as far as it applies.
TABLE = ("l1", "psnr", "psnr_y", "ssim", "delta_e", "features", "retrieval", "frechet", "cycle")
ENLARGED, UNPAIRED = ("psnr_y",), ("retrieval", "frechet")  # of these, those that only such a system is judged by
TO_TRUTH: dict[str, Callable[..., Tensor]] = {
    "l1": l1, "psnr": psnr, "psnr_y": psnr_y, "ssim": ssim, "delta_e": delta_e,
}  # fmt: skip


@dataclass(frozen=True)
class Translations:
    """values, baseline: by example, by metric.   baselines: what the baseline of each example is.
    protocol: what they hold for."""

    values: Mapping[str, Mapping[str, float]]
    baseline: Mapping[str, Mapping[str, float]]
    baselines: Mapping[str, str]
    protocol: Mapping[str, Any]

    def __str__(self) -> str:
        names = list(dict.fromkeys(name for values in self.values.values() for name in values))
        rows = [["", *names]]
        for example, values in self.values.items():
            free = self.baseline[example]
            rows.append([example, *(_number(values.get(name)) for name in names)])
            rows.append([f"  {self.baselines[example]}", *(_number(free.get(name)) for name in names)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = [
            "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]).rstrip()
            for row in rows
        ]
        width = max(map(len, [*names, *self.protocol]))
        said = [f"{name:{width}}  {registry.described(name)}" for name in names]
        return "\n".join(
            [*table, "", *said, "", *(f"{name:{width}}  {value}" for name, value in self.protocol.items())]
        )

    def mean(self, metric: str) -> tuple[float, dict[str, float]]:
        """Of that metric the mean over the examples, and over what costs nothing, by its name."""
        names = [example for example, values in self.values.items() if metric in values]
        free: dict[str, list[float]] = {}
        for example in names:
            if metric in self.baseline[example]:
                free.setdefault(self.baselines[example], []).append(self.baseline[example][metric])
        made = mean(self.values[example][metric] for example in names)
        return made, {name: mean(values) for name, values in free.items()}

    def json(self) -> str:
        """An object; what is not finite is null."""
        rows = {
            example: {"baseline": self.baselines[example], "metrics": values, "of_baseline": self.baseline[example]}
            for example, values in self.values.items()
        }
        return strict_json.dumps({"examples": rows, "protocol": dict(self.protocol)}, indent=2) + "\n"


@torch.no_grad()
def evaluate(
    system: Translator,
    data: Any,
    *,
    samples: int | None = None,
    features: str | Features = "small",
    metrics: Iterable[str] | None = None,
    paired: bool | None = None,
    shown: bool = False,
    seed: int = 0,
) -> Translations:
    """What `system` makes of pictures of `data`, measured: a row an example of `Translator.examples`.

        print(evaluate(fastgan.load("runs/flat"), fastgan.data.load("fluent@test")))

    data: what `fastgan.data.Batches` takes, with the fields of `system.inputs()`.
    samples: at most so many rows, 512 by default.   features: a name of `fastgan.pretrained`, or a network of it.
    metrics: names of `fastgan.metrics.registry.names()`; by default those of the next paragraph.
    paired: whether the rows are pairs, also of a system that trains without them; by default, whether they are drawn
        together.
    shown: look only at the examples that are in previews.
    seed: of the choice of rows, and of what an example draws.

    Where the truth is known: l1, psnr, ssim, of a system that enlarges psnr_y, of pictures in colors delta_e, and the
    distance in maps of features; of systems that train without pairs also retrieval. Where it is not: the Frechet
    distance to the other domain. With a way back: cycle. In an example with a region l1, psnr, ssim and delta_e look
    there alone.

    TypeError for a system that does not translate, ValueError for data that it cannot take, or a metric that is to be
    had of no example; FloatingPointError for pictures that are not finite.
    """
    if not hasattr(system, "examples"):
        raise TypeError(
            f"translations are of a Translator, not of {type(system).__name__}: fastgan.metrics.evaluate is for others"
        )
    positive(samples=MOST if samples is None else samples)
    wanted = usual(system) if metrics is None else registry.chosen(metrics)
    network = None
    if any("features" in metric.needs for metric in wanted):
        network = InParts(pretrained(features, system.device) if isinstance(features, str) else features, system.device)
    source = source_of(fitted(data, system.inputs()))
    rows = take(source, MOST if samples is None else samples, seed=seed)
    values, free, names = {}, {}, {}
    lacking: dict[str, list[str]] = {}
    known = drawn_together(system, source) if paired is None else paired
    for example in system.examples(rows, torch.Generator().manual_seed(seed), paired=known):
        if shown and not example.shown:
            continue
        made = _translated(system, example)
        real = to_uint8(rows[system.directions[example.direction][1]])
        names[example.name], cost = system.baseline(example)
        compared = _compared(example, made, real, network, seed, _cycle(system, example, made))
        values[example.name] = _measured(compared, wanted)
        free[example.name] = _measured(_compared(example, _like(cost, made), real, network, seed), wanted)
        lacking = lacking or {metric.name: compared.lacks(metric) for metric in wanted}
    if metrics is not None:
        _check_found(values, lacking)
    protocol: dict[str, Any] = {"rows": min(len(values_of) for values_of in rows.values())}
    if network is not None:
        protocol["features"] = network.name
    return Translations(values, free, names, {**protocol, "seed": seed})


def usual(system: Translator) -> list[Metric]:
    """What such a system is measured by, as far as its data allow it."""
    left_out = (() if system.scale > 1 else ENLARGED) + (UNPAIRED if system.paired else ())
    return registry.chosen(name for name in TABLE if name not in left_out)


def lacks(system: Translator, rows: Batch, metric: Metric, paired: bool | None = None) -> list[str]:
    """What the metric needs, of `registry.NEEDS`, that no example in previews has of such rows."""
    found: list[list[str]] = []
    for example in system.examples(rows, torch.Generator().manual_seed(0), paired=paired):
        if example.shown:
            made = (example.images if example.truth is None else example.truth).float()
            found.append(_compared(example, made, to_uint8(made), None, 0).lacks(metric))
    return min(found, key=len, default=["truth"])


class InParts:
    """Features of a few pictures at a time.   name: of the network."""

    def __init__(self, features: Features, device: torch.device) -> None:
        self.name = features.name
        self._features = features.to(device)
        self._device = device

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> (N, D)"""
        return self._each(lambda part: self._features.describe(to_float(part)), images)

    def distance(self, made: Tensor, truth: Tensor) -> Tensor:
        """(N,) as of `feature_distance`, of pictures in [-1, 1]."""
        return self._each(lambda a, b: feature_distance(self._features, a.float(), b.float()), made, truth)

    def _each(self, function: Callable[..., Tensor], *images: Tensor) -> Tensor:
        parts = zip(*(each.split(CHUNK) for each in images))
        return torch.cat([function(*(each.to(self._device) for each in part)).cpu() for part in parts])


def to_truth(compared: Comparison, name: str) -> float:
    """The metric of that name of each picture and its truth, the mean over those of which there is something."""
    found = compared.translated
    assert found is not None
    assert found.truth is not None
    if name == "features":
        return compared.network.distance(found.made, found.truth).mean().item()  # type: ignore[union-attr]
    images = (found.made, found.truth) if found.region is None else (found.made, found.truth, found.region)
    parts = zip(*(each.split(CHUNK) for each in images))
    return torch.cat([TO_TRUTH[name](*part) for part in parts]).nanmean().item()


def retrieval(compared: Comparison) -> float:
    """The share of pictures whose nearest truth is their own, by the cosine of features about their mean."""
    assert compared.translated is not None
    assert compared.translated.truth is not None
    own = compared.features_of(to_uint8(compared.translated.truth.clamp(-1, 1)))
    a, b = (F.normalize(each - own.mean(0), dim=1) for each in (compared.features[1], own))
    return (torch.cdist(a, b).argmin(1) == torch.arange(len(a))).double().mean().item()


def cycle(compared: Comparison) -> float:
    """The l1 after both ways."""
    assert compared.translated is not None
    assert compared.translated.cycle is not None
    return compared.translated.cycle()


def drawn_together(system: Translator, source: Any) -> bool:
    """Whether the rows of a source are pairs: the system's own, or of data that draw both fields of each direction
    together."""
    return system.paired or all(
        before == after or any({before, after} <= set(group) for group in source.groups)
        for before, after in system.directions.values()
    )


def feature_distance(network: Features, made: Tensor, truth: Tensor) -> Tensor:
    """(N,): the squared distance of maps whose channels have length 1 at each place, the mean over places and maps
    (Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
    2018, without their learned weights)."""
    parts = [
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
        for a, b in zip(network(made), network(truth))
    ]
    return torch.stack(parts).mean(0)


def _translated(system: Translator, example: Example) -> Tensor:
    parts = []
    for start in range(0, len(example.images), CHUNK):
        part = example.rows(slice(start, start + CHUNK))
        parts.append(system.translate(part.images, part.direction, **part.inputs).float().cpu())
    made = torch.cat(parts)
    if not made.isfinite().all():
        raise FloatingPointError(f"{example.name}: translations hold NaN or infinity: the generator has diverged")
    return made.clamp(-1, 1)


def _compared(
    example: Example,
    made: Tensor,
    real: Tensor,
    network: InParts | None,
    seed: int,
    back: Callable[[], float] | None = None,
) -> Comparison:
    truth = example.truth
    truth = truth.cpu() if truth is not None and truth.shape == made.shape else None
    region = None if example.region is None else example.region.cpu()
    return Comparison(real, to_uint8(made), seed, network, translated=Translated(made, truth, region, back))


def _measured(compared: Comparison, wanted: Iterable[Metric]) -> dict[str, float]:
    """Of the metrics those that can be had."""
    alone = len(compared.fake) < 2 or compared.fake.shape[1] != compared.real.shape[1]
    return {
        metric.name: metric.compute(compared)
        for metric in wanted
        if not compared.lacks(metric) and not (alone and metric.name in UNPAIRED)
    }


def _check_found(values: Mapping[str, Mapping[str, float]], lacking: Mapping[str, list[str]]) -> None:
    """ValueError for a metric that no example has."""
    for name, needs in lacking.items():
        if not any(name in found for found in values.values()):
            said = " and ".join(registry.NEEDS[need] for need in needs) or "two pictures or more, of the same channels"
            raise ValueError(f"{name} cannot be had here: it needs {said}")


def _cycle(system: Translator, example: Example, made: Tensor) -> Callable[[], float] | None:
    """The l1 of the whole picture translated there and back, where there is a way back."""
    back = system.way_back(example.direction)
    if back is None or example.region is not None:
        return None
    there = replace(example, direction=back, images=made, truth=None, region=None, inputs={})
    return lambda: l1(_translated(system, there), example.images.cpu().float()).mean().item()


def _like(images: Tensor, made: Tensor) -> Tensor:
    """Of a gray picture three equal channels, where colors are made."""
    images = images.float().cpu().clamp(-1, 1)
    return images.expand(-1, made.shape[1], -1, -1) if images.shape[1] == 1 else images


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if math.isfinite(value) and abs(value) < 10 else f"{value:.4g}"
