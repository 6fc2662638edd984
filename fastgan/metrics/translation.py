"""How good a system translates pictures: beside the truth where it is known, beside the other domain where it is not,
and always beside what costs nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import strict_json
from fastgan.color import delta_e
from fastgan.data import take
from fastgan.data.fitting import fitted
from fastgan.data.source import source_of
from fastgan.metrics.checks import positive
from fastgan.metrics.frechet import frechet_distance
from fastgan.metrics.truth import WINDOW, l1, psnr, psnr_y, ssim
from fastgan.pretrained import Features
from fastgan.pretrained import features as pretrained

if TYPE_CHECKING:
    from fastgan.systems import Example, Translator

MOST = 512  # rows, unless asked for
CHUNK = 16  # pictures in work at once
TEXTS = {
    "l1": "mean absolute difference to the truth, in [0, 1]; lower is better",
    "psnr": "peak signal-to-noise ratio, dB; higher is better",
    "psnr_y": "the same of luma; higher is better",
    "ssim": "structural similarity; higher is better",
    "delta_e": "color difference to the truth, CIEDE2000, of which 1 can just be seen; lower is better",
    "features": "distance to the truth in maps of the features; lower is better",
    "retrieval": "share whose nearest truth by features is their own; higher is better",
    "frechet": "Frechet distance of features to the other domain; lower is better",
    "cycle": "l1 of the picture translated there and back; lower is better",
}


@dataclass(frozen=True)
class Translations:
    """values, baseline: by example, by metric.   baselines: what the baseline of each example is.
    protocol: what they hold for."""

    values: Mapping[str, Mapping[str, float]]
    baseline: Mapping[str, Mapping[str, float]]
    baselines: Mapping[str, str]
    protocol: Mapping[str, Any]

    def __str__(self) -> str:
        names = [name for name in TEXTS if any(name in values for values in self.values.values())]
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
        said = [f"{name:{width}}  {TEXTS[name]}" for name in names]
        return "\n".join(
            [*table, "", *said, "", *(f"{name:{width}}  {value}" for name, value in self.protocol.items())]
        )

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
    paired: bool | None = None,
    seed: int = 0,
) -> Translations:
    """What `system` makes of pictures of `data`, measured: a row an example of `Translator.examples`.

        print(evaluate(fastgan.load("runs/flat"), fastgan.data.load("fluent@test")))

    data: what `fastgan.data.Batches` takes, with the fields of `system.inputs()`.
    samples: at most so many rows, 512 by default.   features: a name of `fastgan.pretrained`, or a network of it.
    paired: whether the rows are pairs, also of a system that trains without them; by default, whether they are drawn
        together.
    seed: of the choice of rows, and of what an example draws.

    Where the truth is known: l1, psnr, ssim, of a system that enlarges psnr_y, of pictures in colors delta_e, and the
    distance in maps of features; of systems that train without pairs also retrieval. Where it is not: the Frechet
    distance to the other domain. With a way back: cycle. In an example with a region l1, psnr, ssim and delta_e look
    there alone.

    TypeError for a system that does not translate, ValueError for data that it cannot take; FloatingPointError for
    pictures that are not finite.
    """
    if not hasattr(system, "examples"):
        raise TypeError(
            f"translations are of a Translator, not of {type(system).__name__}: fastgan.metrics.evaluate is for others"
        )
    positive(samples=MOST if samples is None else samples)
    network = pretrained(features, system.device) if isinstance(features, str) else features.to(system.device)
    source = source_of(fitted(data, system.inputs()))
    if paired is None:
        paired = drawn_together(system, source)
    rows = take(source, MOST if samples is None else samples, seed=seed)
    values, free, names = {}, {}, {}
    for example in system.examples(rows, torch.Generator().manual_seed(seed), paired=paired):
        made = _translated(system, example)
        other = rows[system.directions[example.direction][1]]
        names[example.name], cost = system.baseline(example)
        values[example.name] = _measured(system, example, made, other, network)
        if back := _way_back(system, example):
            again = _translated(system, replace(example, direction=back, images=made, truth=None, region=None))
            values[example.name]["cycle"] = l1(again, example.images).mean().item()
        free[example.name] = _measured(system, example, _like(cost, made), other, network)
    protocol = {"rows": min(len(values_of) for values_of in rows.values()), "features": network.name, "seed": seed}
    return Translations(values, free, names, protocol)


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


def _measured(system: Translator, example: Example, made: Tensor, other: Tensor, network: Features) -> dict[str, float]:
    found: dict[str, float] = {}
    truth = example.truth
    if truth is not None and made.shape == truth.shape:
        truth = truth.cpu()
        region = None if example.region is None else example.region.cpu()
        metrics: dict[str, Callable[..., Tensor]] = {"l1": l1, "psnr": psnr}
        if system.scale > 1:
            metrics["psnr_y"] = psnr_y
        if min(made.shape[2:]) >= WINDOW:
            metrics["ssim"] = ssim
        if made.shape[1] == 3:
            metrics["delta_e"] = delta_e
        found = {name: metric(made, truth, region).nanmean().item() for name, metric in metrics.items()}
        found["features"] = _in_parts(lambda a, b: feature_distance(network, a, b), system, made, truth).mean().item()
    if system.paired or made.shape[1] != other.shape[1] or len(made) < 2:
        return found
    described = [_in_parts(network.describe, system, images) for images in (made, other)]
    if truth is not None and len(truth) == len(made):
        own = _in_parts(network.describe, system, truth)
        a, b = (F.normalize(each - own.mean(0), dim=1) for each in (described[0], own))
        found["retrieval"] = (torch.cdist(a, b).argmin(1) == torch.arange(len(a))).double().mean().item()
    found["frechet"] = frechet_distance(described[1], described[0])
    return found


def _in_parts(function: Callable[..., Tensor], system: Translator, *images: Tensor) -> Tensor:
    parts = zip(*(each.float().split(CHUNK) for each in images))
    return torch.cat([function(*(each.to(system.device) for each in part)).cpu() for part in parts])


def _way_back(system: Translator, example: Example) -> str | None:
    """The direction that goes back, where neither takes anything beside the picture."""
    before, after = system.directions[example.direction]
    if before == after or system.takes:
        return None
    return next((name for name, both in system.directions.items() if both == (after, before)), None)


def _like(images: Tensor, made: Tensor) -> Tensor:
    """Of a gray picture three equal channels, where colors are made."""
    images = images.float().cpu().clamp(-1, 1)
    return images.expand(-1, made.shape[1], -1, -1) if images.shape[1] == 1 else images


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if math.isfinite(value) and abs(value) < 10 else f"{value:.4g}"
