"""A generator against a discriminator: what all such systems share, and the remedies of the literature as options.

A subclass composes its configuration of the families of options that it uses (`fastgan.options.groups`; `Players` and
`Networks` at least) and gives it the paper's defaults, builds `generator` and `discriminator` in `__init__`, and
overrides what its paper does otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fastgan import backend
from fastgan.data.fields import Batch
from fastgan.data.panel import Panel
from fastgan.fusion.paired import is_one_pass, paired
from fastgan.losses import Adversarial, Lazy, NonSaturating, r1
from fastgan.nn import DifferentiableAugment, Dropout
from fastgan.options import options
from fastgan.options.groups import R1, Adam, Augmentation, Decay, Forgetting, LabelNoise, Networks, Players
from fastgan.systems.base import Part, Phase, adam, normal
from fastgan.systems.generative import Generative
from fastgan.systems.remedies import ADVERSARIAL, Remedy


@dataclass(frozen=True)
class AdversarialConfig(Decay, R1, Augmentation, LabelNoise, Forgetting, Adam, Players, Networks):
    """All families of options that a system of two players may have. The remedies are off by default."""


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
    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.batches = config.discriminator_steps
        self.loss: Any = self.objective()
        self.augment = DifferentiableAugment("")
        self.r1 = Lazy(partial(r1, gamma=0.0))
        self._take(config)

    @property
    def live(self) -> tuple[str, ...]:
        return tuple(name for name in super().live if name != "augment" or self.makes == "image")

    def change(self, **given: Any) -> None:
        super().change(**given)
        if isinstance(self.config, LabelNoise):
            self.loss = self.objective()
        self._take(self.config)

    def _take(self, config: Any) -> None:
        if isinstance(config, Augmentation):
            self.augment = DifferentiableAugment(config.augment).train(self.training)
        if isinstance(config, R1):
            self.r1.penalty, self.r1.every = partial(r1, gamma=config.r1), config.r1_every

    def objective(self) -> Any:
        """The loss that its options ask for. It has no state where the system has label noise, which may change."""
        return self.Loss(**self.label_noise())

    def label_noise(self) -> dict[str, Any]:
        """Arguments of a loss."""
        given = {each.name: getattr(self.config, each.name, 0.0) for each in options(LabelNoise)}
        return {name: value for name, value in given.items() if value}

    @torch.no_grad()
    def seen(self, batch: Batch, count: int) -> list[Panel]:
        """Augmented, as the discriminator sees them."""
        panels = super().seen(batch, count)
        return [replace(panel, parts={n: self.augment(x) for n, x in panel.parts.items()}) for panel in panels]

    def remedies(self, symptom: str) -> list[Remedy]:
        return list(ADVERSARIAL.get(symptom, ()))

    def phases(self) -> list[Phase]:
        config = self.config
        rate = config.discriminator_learning_rate or config.learning_rate
        optimizers = self.optimizer(self.discriminator, rate), self.optimizer(self.generator, config.learning_rate)
        settings: dict[str, Any] = {
            "clip": config.clip_gradients,
            "rate": partial(rate_at, config) if isinstance(config, Decay) and config.decay != "none" else None,
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
        real = batch[self.makes]
        count, left = divmod(len(real), self.config.discriminator_steps)
        if left or not count:
            raise ValueError(
                f"a step takes {self.config.discriminator_steps} batches of one size, put together, "
                f"not {len(real)} rows"
            )
        count *= self.config.generator_batches
        labels = self.fake_labels(count)
        return State(real, self.generate(self.latent(count), labels), batch.get("label"), labels)

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
        if getattr(self.config, "r1", 0) and (penalty := self.r1(self.logits, real)).requires_grad:
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


def rate_at(config: Decay, step: int) -> float:
    """The share of its learning rate that a network has in step number `step`, counted from 0."""
    steps = max(0, step - config.decay_from)
    if config.decay == "linear":
        return max(0.0, 1 - steps / config.decay_steps)
    if config.decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, steps / config.decay_steps)))
    return 0.5 ** (steps // config.decay_steps) if config.decay == "halve" else 1.0
