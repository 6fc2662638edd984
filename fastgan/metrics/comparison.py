"""What metrics look at: samples beside the data, their features and classes, and where the samples came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from fastgan.metrics.registry import WINDOW, Metric

R = TypeVar("R")


class Described(NamedTuple):
    """What a network says of images: features (N, D) float32, and the class of each, (N,), where it knows classes."""

    features: Tensor
    classes: Tensor | None


class Mixture(NamedTuple):
    """Of points: the centres (K, D) of the modes, and their deviation in each dimension."""

    centres: Tensor
    deviation: float


class Translated(NamedTuple):
    """Of pictures made of others: made (N, C, H, W) in [-1, 1]; the truth, likewise, and the region (N, 1, H, W) bool
    where it counts, as of `fastgan.systems.Example`; and what the l1 after both ways is, where there is a way back."""

    made: Tensor
    truth: Tensor | None = None
    region: Tensor | None = None
    cycle: Callable[[], float] | None = None


@dataclass(frozen=True)
class Comparison:
    """real, fake: the data and the samples, uint8 images (N, C, H, W) or floating-point points (N, D), on one device.
    network: of features, what `evaluate` takes; None compares points themselves.
    convergence: what the system says of it, None where there is none that does.
    translated: of translations, which are also `fake`, `real` being what they are made like.
    latents: a count -> latents, and generate: latents -> images, None where there is no system.
    """

    real: Tensor
    fake: Tensor
    seed: int
    network: Callable[[Tensor], Any] | None = None
    latents: Callable[[int], Tensor] | None = None
    generate: Callable[[Tensor], Tensor] | None = None
    mixture: Mixture | None = None
    convergence: float | None = None
    translated: Translated | None = None
    _found: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False)

    def features_of(self, samples: Tensor) -> Tensor:
        """(N, D)"""
        return self._described(samples).features

    @cached_property
    def features(self) -> tuple[Tensor, Tensor]:
        """Of the data and of the samples, (N, D) each."""
        real, fake = self._both
        return real.features, fake.features

    @cached_property
    def classes(self) -> tuple[Tensor, Tensor, int] | None:
        """Of the data and of the samples, (N,) each, and how many there are; None where the features know none."""
        real, fake = self._both
        if real.classes is None or fake.classes is None or self.network is None:
            return None
        return real.classes, fake.classes, self.network.classes  # type: ignore[attr-defined]

    def lacks(self, metric: Metric) -> list[str]:
        """What the metric needs and is not here, of `registry.NEEDS`."""
        has: dict[str, Callable[[], bool]] = {
            "features": lambda: True,
            "classes": lambda: self.classes is not None,
            "images": lambda: not self.real.is_floating_point(),
            "latents": lambda: self.latents is not None,
            "modes": lambda: self.mixture is not None,
            "convergence": lambda: self.convergence is not None,
            "truth": lambda: self.translated is not None and self.translated.truth is not None,
            "windows": lambda: self.fake.dim() == 4 and min(self.fake.shape[2:]) >= WINDOW,
            "colors": lambda: self.fake.dim() == 4 and self.fake.shape[1] == 3,
            "way back": lambda: self.translated is not None and self.translated.cycle is not None,
        }
        return [need for need in has if need in metric.needs and not has[need]()]

    def once(self, function: Callable[..., R], *arguments: Any) -> R:
        """The function's result, which metrics of one function share."""
        if function not in self._found:
            self._found[function] = function(*arguments)
        return self._found[function]

    @cached_property
    def _both(self) -> tuple[Described, Described]:
        return self._described(self.real), self._described(self.fake)

    def _described(self, samples: Tensor) -> Described:
        found = samples if self.network is None else self.network(samples)
        return Described(found, None) if isinstance(found, Tensor) else found


def convergence(compared: Comparison) -> float:
    """What the system says (`System.convergence`)."""
    assert compared.convergence is not None
    return compared.convergence
