"""A generator against a discriminator: what all such systems share, and the remedies of the literature as options.

A subclass gives its configuration the paper's defaults, builds `generator` and `discriminator` in `__init__`, and
overrides what its paper does otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fastgan import backend
from fastgan.fusion.paired import is_one_pass, paired
from fastgan.losses import Adversarial, Lazy, NonSaturating, r1
from fastgan.nn import DifferentiableAugment, Dropout
from fastgan.random import private
from fastgan.systems.base import Part, Phase, adam, normal
from fastgan.systems.config import build
from fastgan.systems.generative import Generative
from fastgan.systems.remedies import ADVERSARIAL, Remedy

LABELS = ("label_smoothing", "label_noise", "label_flips")
DECAYS = ("none", "linear", "cosine", "halve")
LIVE = (*LABELS, "augment", "r1", "r1_every")  # options that a system takes while it is trained


@dataclass(frozen=True)
class AdversarialConfig:
    """Options of every system of two players. The remedies, from `discriminator_width` on, are off by default."""

    resolution: int = 64  # pixels a side
    channels: int = 3  # of an image
    latent: int = 100  # size of z
    width: int = 64  # of the networks
    learning_rate: float = 2e-4  # of both networks
    betas: tuple[float, float] = (0.5, 0.999)  # of Adam, both networks
    discriminator_steps: int = 1  # updates of the discriminator, each on images of its own, before one of the generator
    generator_batches: int = 1  # as many images as for one of those updates, in the generator's
    discriminator_width: int | None = None  # none: width
    discriminator_learning_rate: float | None = None  # none: learning_rate (two time-scales: Heusel et al. 2017)
    dropout: float = 0.0  # the share of its features that the discriminator forgets after each block
    label_smoothing: float = 0.0  # a real image's target is 1 less this (Salimans et al. 2016)
    label_noise: float = 0.0  # targets are moved by up to this
    label_flips: float = 0.0  # the share of targets that are exchanged
    augment: str = ""  # what the discriminator sees changed: color, translation, cutout (Zhao et al. 2020)
    r1: float = 0.0  # gamma of the gradient penalty on real images (Mescheder et al. 2018)
    r1_every: int = 16  # steps between two of them, each as many times as strong (Karras et al. 2020)
    clip_gradients: float = 0.0  # the most that the norm of a network's gradient may be; 0: anything
    decay: str = "none"  # of the learning rates, from step decay_from on: linear or cosine to 0, or halve
    decay_from: int = 0  # steps
    decay_steps: int = 0  # steps from there until 0, or from one halving to the next

    def __post_init__(self) -> None:
        for name in (
            "resolution",
            "channels",
            "latent",
            "width",
            "discriminator_steps",
            "generator_batches",
            "r1_every",
        ):
            at_least(1, self, name)
        if self.discriminator_width is not None:
            at_least(1, self, "discriminator_width")
        for name in ("learning_rate", "discriminator_learning_rate"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < math.inf:
                raise ValueError(f"{name} must be a positive number, not {rate}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), not {self.betas}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")
        for name in ("r1", "clip_gradients", "decay_from", "decay_steps"):
            at_least(0, self, name)
        if self.decay not in DECAYS:
            raise ValueError(f"decay must be one of {', '.join(DECAYS)}, not {self.decay!r}")
        if (self.decay != "none") is not (self.decay_steps > 0):
            raise ValueError(
                f"decay {self.decay!r} and decay_steps {self.decay_steps} do not belong together: a decay takes a "
                "number of steps, and no decay takes none"
            )
        DifferentiableAugment(self.augment)  # says what is wrong with it


class State(NamedTuple):
    """What the phases of a step share, of N images a batch."""

    real: Tensor  # (discriminator_steps * N, C, H, W)
    fake: Tensor  # (generator_batches * N, C, H, W), with the generator's graph
    labels: Tensor | None  # (discriminator_steps * N,) of the real images
    fake_labels: Tensor | None  # (generator_batches * N,)


class AdversarialSystem(Generative):
    """One step: the discriminator's updates, each on real images of its own, then one of the generator.

    The generator is updated by the images that the first of them saw: one pass less.
    """

    Loss: ClassVar[type[Adversarial]] = NonSaturating
    live: ClassVar[tuple[str, ...]] = LIVE
    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, config: Any, Loss: type[Adversarial] | None = None) -> None:
        super().__init__(config)
        self.batches = config.discriminator_steps
        labels = {name: getattr(config, name) for name in LABELS}
        self.loss: Any = (Loss or self.Loss)(**{name: value for name, value in labels.items() if value})
        self.augment = DifferentiableAugment(config.augment)
        self.r1 = Lazy(partial(r1, gamma=config.r1), every=config.r1_every)

    def change(self, **options: Any) -> None:
        """Goes on with other values of options that are `LIVE`. ValueError or TypeError as for a new system."""
        if refused := [name for name in options if name not in LIVE]:
            raise ValueError(f"{refused[0]} cannot change in a system that is there; {', '.join(LIVE)} can")
        config = build(type(self.config), {**dataclasses.asdict(self.config), **options}, f"system {self.name}")
        with private():
            other = type(self)(config)  # what its paper makes of the options, it knows best
        self.config, self.augment = config, other.augment.train(self.training)
        if not isinstance(self.loss, nn.Module):  # which has a state
            self.loss = other.loss
        self.r1.penalty, self.r1.every = other.r1.penalty, other.r1.every

    def remedies(self, symptom: str) -> list[Remedy]:
        return list(ADVERSARIAL.get(symptom, ()))

    def phases(self) -> list[Phase]:
        config = self.config
        rate = config.discriminator_learning_rate or config.learning_rate
        optimizers = self.optimizer(self.discriminator, rate), self.optimizer(self.generator, config.learning_rate)
        settings: dict[str, Any] = {
            "clip": config.clip_gradients,
            "rate": None if config.decay == "none" else partial(rate_at, config),
        }
        return [
            *(
                Phase("discriminator", (self.discriminator,), partial(self.discriminator_loss, part=part),
                      optimizers[0], **settings)
                for part in range(config.discriminator_steps)
            ),
            Phase("generator", (self.generator,), self.generator_loss, optimizers[1], **settings),
        ]  # fmt: skip

    def optimizer(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return adam(network, learning_rate, self.config.betas)

    def prepare(self, batch: Any) -> State:
        count, left = divmod(len(batch.image), self.config.discriminator_steps)
        if left or not count:
            raise ValueError(
                f"a step takes {self.config.discriminator_steps} batches of one size, put together, "
                f"not {len(batch.image)} images"
            )
        count *= self.config.generator_batches
        labels = self.fake_labels(count)
        return State(batch.image, self.generate(self.latent(count), labels), batch.get("label"), labels)

    def fake_labels(self, count: int) -> Tensor | None:
        """The classes that the generator is asked for, (count,); None where it knows none."""
        return None

    def part(self, state: State, part: int) -> tuple[Tensor, Tensor]:
        """The real and the generated images, (N, C, H, W) each, of the discriminator's update number `part`."""
        count = len(state.real) // self.config.discriminator_steps
        real = state.real[part * count : (part + 1) * count]
        if part == 0:
            return real, state.fake[:count].detach()
        with torch.no_grad():
            return real, self.generate(self.latent(count), self.fake_labels(count))

    def discriminator_loss(self, state: State, part: int = 0) -> Iterator[Part]:
        real, fake = self.part(state, part)
        yield from self.told_apart(real, fake)
        yield from self.penalties(real, fake)

    def told_apart(self, real: Tensor, fake: Tensor) -> Iterator[Part]:
        """The loss of the discriminator on (N, C, H, W) each."""
        real, fake = self.augment(real), self.augment(fake)
        if self.loss.compares or is_one_pass(self.discriminator, real, fake):
            real_logits, fake_logits = paired(self.discriminator, real, fake)
            yield self.loss.discriminator_logged(real_logits.flatten(), fake_logits.flatten())
            return
        yield self.loss.discriminator_logged(self.discriminator(real).flatten(), None)  # its graph is freed here
        yield self.loss.discriminator_logged(None, self.discriminator(fake).flatten())

    def penalties(self, real: Tensor, fake: Tensor) -> Iterator[Part]:
        """What is added to the discriminator's loss. `r1` has no graph in the steps between."""
        if self.config.r1 and (penalty := self.r1(self.logits, real)).requires_grad:
            yield penalty, {}

    def generator_loss(self, state: State) -> Part:
        # A fresh pass: the discriminator has moved since its own phase.
        fake = self.logits(state.fake)
        if not self.loss.compares:
            return self.loss.generator_logged(fake)
        with torch.no_grad():
            real = self.logits(state.real[: len(fake)])
        return self.loss.generator_logged(fake, real)

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N,)"""
        return self.discriminator(self.augment(images)).flatten()

    def latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return normal((count, self.config.latent), self, generator)

    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        self.check(latent, labels)
        return self.generator(latent)

    def check(self, latent: Tensor, labels: Tensor | None) -> None:
        if backend.traced():
            return
        if labels is not None:
            raise ValueError(f"{self.name} is not conditional: labels must be None")
        if latent.dim() != 2 or latent.shape[1] != self.config.latent:
            raise ValueError(f"latent must have shape (N, {self.config.latent}), not {tuple(latent.shape)}")


def with_dropout(blocks: nn.Sequential, share: float) -> nn.Sequential:
    """The same blocks with dropout after each but the last."""
    if not share:
        return blocks
    return nn.Sequential(*[layer for block in blocks for layer in (block, Dropout(share))][:-1])


def rate_at(config: AdversarialConfig, step: int) -> float:
    """The share of its learning rate that a network has in step number `step`, counted from 0."""
    steps = max(0, step - config.decay_from)
    if config.decay == "linear":
        return max(0.0, 1 - steps / config.decay_steps)
    if config.decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, steps / config.decay_steps)))
    return 0.5 ** (steps // config.decay_steps) if config.decay == "halve" else 1.0


def at_least(least: float, config: Any, name: str) -> None:
    if not least <= getattr(config, name) < math.inf:
        raise ValueError(f"{name} must be at least {least}, not {getattr(config, name)}")


def power_of_two(config: Any, least: int = 16, most: int = 256) -> None:
    """ValueError where `resolution` is not one, with the two nearest."""
    sizes = [2**level for level in range(least.bit_length() - 1, most.bit_length())]
    if config.resolution not in sizes:
        near = sorted(sizes, key=lambda size: abs(size - config.resolution))[:2]
        raise ValueError(
            f"resolution must be a power of two from {least} to {most}, not {config.resolution}; "
            f"the nearest are {min(near)} and {max(near)}"
        )
