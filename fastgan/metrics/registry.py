"""Every metric: what it says, what it needs, which way is better. Tables, errors, `--help` and the best checkpoint of a
run follow from here. Imports no torch: `fastgan evaluate --help` reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from fastgan.messages import log

if TYPE_CHECKING:
    from fastgan.metrics.comparison import Comparison

WINDOW = 11  # pixels a side of SSIM's
Better = Literal["lower", "higher", "one"]
# What a comparison may have, beside the samples and the data, and how an error calls it.
NEEDS = {
    "features": "features of the samples",
    "classes": "data with labels and features of a classifier that knows them",
    "images": "images",
    "latents": "a system to draw latents from",
    "modes": "points of a mixture, such as ring",
    "convergence": "a trained system that measures it, such as simgan",
    "truth": "translated pictures of which the truth is known",
    "windows": f"pictures with sides of at least {WINDOW} pixels",
    "colors": "pictures in colors",
    "way back": "a system that translates both ways, pictures alone",
}


@dataclass(frozen=True)
class Metric:
    """name: by which it is asked for.   text: what it says, in a line.   needs: some of `NEEDS`.
    compute: its value, from what is compared.
    best: whether a run may choose its best checkpoint by it alone.
    named: computed only where it is named, as it takes long.
    knowing: means nothing where the features know nothing of the data (uniform noise had a precision of 0.99).
    aliases: other names of it.
    """

    name: str
    text: str
    better: Better
    needs: frozenset[str]
    compute: Callable[[Comparison], float]
    best: bool = False
    knowing: bool = False
    named: bool = False
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.better not in ("lower", "higher", "one"):
            raise ValueError(f"metric {self.name}: better must be lower, higher or one, not {self.better!r}")
        if self.best and self.better == "one":
            raise ValueError(f"metric {self.name}: the best checkpoint has the lowest or highest value, not 1")
        if unknown := set(self.needs) - set(NEEDS):
            raise ValueError(f"metric {self.name}: needs must be of {', '.join(NEEDS)}, not {', '.join(unknown)}")

    def __str__(self) -> str:
        return f"{self.text}; {'1 is best' if self.better == 'one' else f'{self.better} is better'}"

    def improves(self, value: float, best: float) -> bool:
        """Whether `value` is better than `best`. NaN is not."""
        return value < best if self.better == "lower" else value > best


_metrics: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Makes a metric known to `evaluate`, and where it is `best` to runs. ValueError where a name of it is taken.

        register(Metric("brightness", "difference of mean brightness", "lower", frozenset({"images"}), compute=...))

    A run, which knows the names of its process, needs it registered at every start.
    """
    for name in (metric.name, *metric.aliases):
        if name in _named():
            raise ValueError(f"there is a metric {name} already")
    _metrics[metric.name] = metric
    return metric


def metrics() -> tuple[Metric, ...]:
    """All of them, in the order of tables."""
    return tuple(_metrics.values())


def names() -> tuple[str, ...]:
    return tuple(_metrics)


def find(name: str) -> Metric:
    """The metric of that name or alias. ValueError with all names where there is none.

    An alias of the literature means features of Inception, which are used only where a file of it is given: the log
    says so.
    """
    if name not in (named := _named()):
        raise ValueError(f"no metric {name or 'is named'}; accepted: {summary()}")
    if name != (metric := named[name]).name:
        log.info(
            "%s is %s here: with features of Inception, which `fastgan evaluate --inception FILE` takes, it is the "
            "literature's %s; with those of a classifier trained on the data it compares runs on these data alone",
            name, metric.name, name.upper(),
        )  # fmt: skip
    return metric


def chosen(asked: Iterable[str]) -> list[Metric]:
    """Those named, each once. ValueError for a name that is no metric's, or none at all."""
    return list({(metric := find(name)).name: metric for name in [*asked] or [""]}.values())


def best_by() -> dict[str, Better]:
    """The metrics by which a run may choose its best checkpoint, and which way is better."""
    return {name: metric.better for name, metric in _metrics.items() if metric.best}


def to_be_best_by(name: str) -> str:
    """The name, given that or an alias, of a metric by which a run may choose its best checkpoint; else ValueError."""
    metric = _named().get(name)
    if metric is None or not metric.best:
        accepted = ", ".join(_with_aliases(metric) for metric in _metrics.values() if metric.best)
        raise ValueError(f"metric must be one of {accepted}, not {name!r}")
    return find(name).name


def described(name: str) -> str:
    """What the metric of that name says, "" of a name that there is not (any more)."""
    return str(_metrics[name]) if name in _metrics else ""


def summary() -> str:
    """The names, in a line, with their aliases."""
    return ", ".join(map(_with_aliases, _metrics.values()))


def _with_aliases(metric: Metric) -> str:
    return f"{metric.name} ({', '.join(metric.aliases)})" if metric.aliases else metric.name


def _named() -> dict[str, Metric]:
    return {name: metric for metric in _metrics.values() for name in (metric.name, *metric.aliases)}


def _of(module: str, name: str) -> Callable[[Comparison], float]:
    """A function of a metric's file, imported when it is called."""
    return lambda compared: getattr(import_module(f"fastgan.metrics.{module}"), name)(compared)


def _of_truth(name: str) -> Callable[[Comparison], float]:
    """Of one that compares each picture with its truth."""
    return lambda compared: import_module("fastgan.metrics.translation").to_truth(compared, name)


FEATURES, CLASSES, MODES = frozenset({"features"}), frozenset({"features", "classes"}), frozenset({"modes"})
TRUTH = frozenset({"truth"})
for _metric in (
    Metric("frechet", "Frechet distance of features", "lower", FEATURES, _of("frechet", "compare"),
           best=True, aliases=("fid",)),
    Metric("kernel", "kernel distance (MMD^2) of features", "lower", FEATURES, _of("kernel", "compare"),
           best=True, aliases=("kid",)),
    Metric("precision", "share of samples among the data", "higher", FEATURES, _of("neighbours", "precision"),
           knowing=True),
    Metric("recall", "share of the data among samples", "higher", FEATURES, _of("neighbours", "recall"), knowing=True),
    Metric("density", "samples lie where the data are dense", "one", FEATURES, _of("neighbours", "density"),
           knowing=True),
    Metric("coverage", "share of the data with a sample near", "higher", FEATURES, _of("neighbours", "coverage"),
           best=True, knowing=True),
    Metric("classes_covered", "classes with a sample", "higher", CLASSES, _of("modes", "classes_covered"),
           knowing=True),
    Metric("class_divergence", "KL of the samples' classes from the data's, nats", "lower", CLASSES,
           _of("modes", "class_divergence"), knowing=True),
    Metric("novelty", "distance to the nearest data, relative to other data's", "one", FEATURES,
           _of("neighbours", "novelty")),
    Metric("copies", "share nearer to the data than 99 % of other data, which have 0.01", "lower", FEATURES,
           _of("neighbours", "copies")),
    Metric("path_length", "squared change of features along ways of latents, relative", "lower",
           frozenset({"features", "latents", "images"}), _of("latent_path", "compare")),
    Metric("sliced_wasserstein", "sliced Wasserstein distance of pixels, 512 of each", "lower", frozenset(),
           _of("sliced_wasserstein", "compare"), best=True),
    Metric("patch_divergence", "Jensen-Shannon divergence of patches, nats, by a new discriminator", "lower",
           frozenset({"images"}), _of("patches", "compare"), best=True, named=True),
    Metric("convergence", "what a system's losses say of it, without labels or samples", "lower",
           frozenset({"convergence"}), _of("comparison", "convergence"), best=True),
    Metric("l1", "mean absolute difference to the truth, in [0, 1]", "lower", TRUTH, _of_truth("l1"), best=True),
    Metric("psnr", "peak signal-to-noise ratio, dB", "higher", TRUTH, _of_truth("psnr"), best=True),
    Metric("psnr_y", "peak signal-to-noise ratio of luma, dB", "higher", TRUTH, _of_truth("psnr_y"), best=True),
    Metric("ssim", "structural similarity", "higher", TRUTH | {"windows"}, _of_truth("ssim"), best=True),
    Metric("delta_e", "color difference to the truth, CIEDE2000, of which 1 can just be seen", "lower",
           TRUTH | {"colors"}, _of_truth("delta_e"), best=True),
    Metric("features", "distance to the truth in maps of the features", "lower", TRUTH | FEATURES,
           _of_truth("features"), best=True),
    Metric("retrieval", "share whose nearest truth by features is their own", "higher", TRUTH | FEATURES,
           _of("translation", "retrieval")),
    Metric("cycle", "l1 of pictures translated there and back", "lower", frozenset({"way back"}),
           _of("translation", "cycle")),
    Metric("modes_covered", "modes with a sample within 3 deviations", "higher", MODES, _of("modes", "modes_covered")),
    Metric("high_quality", "share of samples within 3 deviations of a mode", "higher", MODES,
           _of("modes", "high_quality")),
):  # fmt: skip
    register(_metric)
