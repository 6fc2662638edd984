"""Semi-supervised GAN: Salimans et al., "Improved Techniques for Training GANs", 2016."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fastgan.data.fields import Field
from fastgan.losses import SemiSupervised, feature_matching
from fastgan.nn import Dropout, init
from fastgan.options import option
from fastgan.options.groups import (
    POWERS_OF_TWO,
    R1,
    Adam,
    Augmentation,
    Decay,
    Forgetting,
    LabelNoise,
    Networks,
    Players,
)  # fmt: skip
from fastgan.random import private
from fastgan.systems.adversarial import AdversarialSystem, State
from fastgan.systems.base import Part, choices, evaluating, uniform
from fastgan.systems.quick import Preset

FIRST = 500  # images of 32x32 that the first lengths and biases are fitted to; fewer larger ones


@dataclass(frozen=True)
class SGANConfig(Decay, R1, Augmentation, Forgetting, Adam, Players, Networks):
    """Defaults of the authors' code for CIFAR-10. (It takes 400 labels a class, and lets the learning rate fall to 0
    in the last third of 1200 epochs: `decay`. Its batches are of 100 images.)"""

    resolution: int = option(32, "pixels a side", choices=POWERS_OF_TWO)
    learning_rate: float = 3e-4
    classes: int = option(10, "of the data", least=2)
    labels_per_class: int = option(
        10, "the first of each class; of all other images the labels are not looked at", least=1
    )
    labelled_batch: int = option(100, "labelled images a step, drawn from those", least=1)
    dropout: float = option(0.5, "of the features before each change of width; of the image, 0.4 times as much")
    discriminator_width: int | None = option(None, "none: 3/2 width")
    generator_loss: str = option(
        "feature_matching", "of the layer before the logits; or logits", choices=("feature_matching", "logits")
    )
    without: ClassVar[Mapping[type, str]] = {LabelNoise: "the discriminator learns classes, not real against fake"}


class SGAN(AdversarialSystem):
    """Learns classes from a few labelled images and many without label; K+1 classes (Salimans 2016)."""

    name: ClassVar[str] = "sgan"
    Config: ClassVar[type] = SGANConfig
    averaged: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    Loss: ClassVar[Any] = SemiSupervised
    generator: nn.Sequential
    discriminator: Discriminator
    images: Tensor  # (classes * labels_per_class, C, H, W): the labelled ones, class by class

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        return Preset({"resolution": 16, "width": 16, "learning_rate": 1e-3}, {"batch_size": 50})

    def __init__(self, config: SGANConfig) -> None:
        super().__init__(config)
        self.generator = generator(config)
        self.discriminator = Discriminator(config)
        self.begun = False
        self.register_buffer("images", torch.zeros(config.classes * config.labels_per_class, *self.image_shape))
        init.normal(self, 0.05)
        for module in self.generator.modules():  # batch normalisation that shifts but does not scale
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.requires_grad_(False)

    def begin(self, batches: Iterator[Any]) -> None:
        """Keeps the first `labels_per_class` images of each class, and fits the lengths and biases of normalised
        weights to the first images (Salimans and Kingma 2016, section 3)."""
        wanted = self.config.labels_per_class
        kept: list[list[Tensor]] = [[] for _ in range(self.config.classes)]
        first: list[Tensor] = []
        enough = max(32, FIRST * 32**2 // self.config.resolution**2)
        for batch in batches:
            if "label" not in batch:
                raise ValueError(f"{self.name} needs data with labels, {wanted} images of each class; these have none")
            if (highest := int(batch.label.max())) >= len(kept):
                raise ValueError(
                    f"the data have a class {highest}: classes must be at least {highest + 1}, not {len(kept)}"
                )
            if sum(map(len, first)) < enough:
                first.append(batch.image)
            for image, label in zip(batch.image, batch.label.tolist()):
                if len(kept[label]) < wanted:
                    kept[label].append(image)
            if sum(map(len, first)) >= enough and all(len(images) == wanted for images in kept):
                break
        for label, images in enumerate(kept):
            if len(images) < wanted:
                raise ValueError(
                    f"class {label} has {len(images)} images, labels_per_class is {wanted}: choose at most as many as "
                    f"the smallest class has, and classes as many as the data have (now {len(kept)})"
                )
        self.images.copy_(torch.stack([image for images in kept for image in images]))
        seen = torch.cat(first)[:enough].to(self.images)
        # Latents and dropout are alike in all processes of a distributed run, and no stream of random numbers moves.
        with private(0):
            fit(self.generator, self.latent(len(seen), torch.Generator().manual_seed(0)))
            features = fit(self.discriminator.features, self.augment(seen))
            fit(nn.Sequential(self.discriminator.classes), features)

    def prepare(self, batch: Any) -> State:
        if not self.begun:  # asked once, because the answer comes from the device
            if not self.images.any():
                raise RuntimeError("sgan has no labelled images yet: call begin(batches) before the first step")
            self.begun = True
        return super().prepare(batch)

    def labelled(self) -> tuple[Tensor, Tensor]:
        """Images (labelled_batch, C, H, W), drawn from those that have labels, and these, (labelled_batch,)."""
        chosen = choices(self.config.labelled_batch, len(self.images), self)
        return self.images[chosen], chosen // self.config.labels_per_class

    def told_apart(self, real: Tensor, fake: Tensor) -> Iterator[Part]:
        images, labels = self.labelled()
        labelled, unlabelled, generated = (self.discriminator(self.augment(x)) for x in (images, real, fake))
        yield self.loss.discriminator_logged(labelled, labels, unlabelled, generated)

    def generator_loss(self, state: State) -> Part:
        fake = self.discriminator.features(self.augment(state.fake))
        loss, logged = self.loss.generator_logged(self.discriminator.classes(fake))
        if self.config.generator_loss == "logits":
            return loss, logged
        with torch.no_grad():
            real = self.discriminator.features(self.augment(self.part(state, 0)[0]))
        return feature_matching(real, fake), logged

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N,): those of a real image, log sum exp of its classes"""
        return self.discriminator(self.augment(images)).logsumexp(1)

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, classes) logits, by the discriminator in eval mode."""
        if images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images must have shape (N, {', '.join(map(str, self.image_shape))}), not {tuple(images.shape)}"
            )
        with evaluating(self):
            return self.discriminator(images.to(self.images))

    def latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return uniform((count, self.config.latent), self, generator, 0.0)


def generator(config: SGANConfig) -> nn.Sequential:
    """(N, latent) in [0, 1] -> (N, channels, resolution, resolution) in [-1, 1]"""
    width = config.width << int(math.log2(config.resolution)) - 2
    layers: list[nn.Module] = [
        nn.Linear(config.latent, 16 * width, bias=False),
        nn.BatchNorm1d(16 * width),
        nn.ReLU(True),
        nn.Unflatten(1, (width, 4, 4)),
    ]
    while width > 2 * config.width:
        layers += [
            nn.ConvTranspose2d(width, width // 2, 5, 2, 2, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(True),
        ]
        width //= 2
    last = nn.ConvTranspose2d(width, config.channels, 5, 2, 2, 1)
    return nn.Sequential(*layers, weight_norm(last, dim=1), nn.Tanh())


class Discriminator(nn.Module):
    """(N, channels, resolution, resolution) -> (N, classes) logits"""

    def __init__(self, config: SGANConfig) -> None:
        super().__init__()
        narrow = config.discriminator_width or max(1, config.width * 3 // 2)
        wide, before = 2 * narrow, config.channels
        layers: list[nn.Module] = [Dropout(0.4 * config.dropout)]
        # Channels, kernel size, stride, padding.
        for after, kernel, stride, padding in (
            *((narrow, 3, 1, 1), (narrow, 3, 1, 1), (narrow, 3, 2, 1)),
            *((wide, 3, 1, 1), (wide, 3, 1, 1), (wide, 3, 2, 1)),
            *((wide, 3, 1, 0), (wide, 1, 1, 0), (wide, 1, 1, 0)),
        ):
            layers += [weight_norm(nn.Conv2d(before, after, kernel, stride, padding)), nn.LeakyReLU(0.2, True)]
            if stride == 2:
                layers.append(Dropout(config.dropout))
            before = after
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classes = weight_norm(nn.Linear(wide, config.classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.classes(self.features(images))


@torch.no_grad()
def fit(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Gives each normalised layer the length and the bias by which, for the inputs x, each of its channels has mean 0
    and standard deviation 1, or 0.1 where it is the last one of a network (no leaky ReLU follows). Returns the outputs.
    """
    for layer, after in zip(layers, [*list(layers)[1:], None]):
        if hasattr(layer, "parametrizations"):
            y = layer(x)
            over = [dimension for dimension in range(y.dim()) if dimension != 1]
            deviation = y.std(over, correction=0).clamp(min=1e-6)
            scale = (1.0 if isinstance(after, nn.LeakyReLU) else 0.1) / deviation
            parameters: Any = layer
            length = parameters.parametrizations.weight.original0
            length.mul_(scale.view_as(length))
            parameters.bias.sub_(y.mean(over)).mul_(scale)
        x = layer(x)
    return x
