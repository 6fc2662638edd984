"""What commonly goes wrong with a GAN, and what the literature does against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STRONG = "the discriminator is far too strong"
VANISHING = "the generator's gradient vanishes"
FOOLED = "the generator fools the discriminator"
COLLAPSE = "the samples are alike (mode collapse)"
OSCILLATION = "the losses oscillate"
COPIES = "the generator copies its input"
HIDDEN = "the cycle hides what it restores"
UNEVEN = "one direction wins"


@dataclass(frozen=True)
class Remedy:
    """`text`: for a person. `options`: the same for a running training, which `System.change` takes; none where it
    takes a resume with other options or, with `anew`, a new run."""

    text: str
    options: Mapping[str, Any] | None = None
    anew: bool = False

    def __str__(self) -> str:
        return self.text


R1 = Remedy("r1=1", {"r1": 1.0})
SMOOTHING = Remedy("label_smoothing=0.1", {"label_smoothing": 0.1})
AUGMENT = Remedy("augment=translation,cutout", {"augment": "translation,cutout"})
SLOWER_DISCRIMINATOR = Remedy("a smaller discriminator_learning_rate")
SLOWER = Remedy("a smaller learning_rate")

# Of a generator against a discriminator, the first to try first: R1 brings back a collapsed generator at more seeds
# than label smoothing and augmentation do (docs/systems.md).
ADVERSARIAL: dict[str, tuple[Remedy, ...]] = {
    STRONG: (
        R1,
        SMOOTHING,
        AUGMENT,
        SLOWER_DISCRIMINATOR,
        Remedy("dropout=0.3", anew=True),
        Remedy("a smaller discriminator_width", anew=True),
        Remedy("label_noise=0.1", {"label_noise": 0.1}),
        Remedy("label_flips=0.05", {"label_flips": 0.05}),
    ),
    VANISHING: (R1, SMOOTHING, Remedy("a non-saturating loss instead of minimax", anew=True), SLOWER_DISCRIMINATOR),
    FOOLED: (Remedy("discriminator_steps=2"), Remedy("a larger discriminator_learning_rate"), SLOWER),
    COLLAPSE: (R1, AUGMENT, SLOWER, Remedy("another system: sngan, wgan-gp", anew=True)),
    OSCILLATION: (
        SLOWER,
        Remedy("decay=linear with decay_steps=N"),
        R1,
        Remedy("betas with a first number of 0"),
    ),
}
