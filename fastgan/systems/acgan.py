"""AC-GAN: Odena, Olah, Shlens, "Conditional Image Synthesis With Auxiliary Classifier GANs", 2017."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan import backend
from fastgan.data.fields import Field
from fastgan.fusion.paired import paired
from fastgan.losses import AuxiliaryClassifier
from fastgan.nn import Dropout, init
from fastgan.options import option
from fastgan.options.groups import POWERS_OF_TWO
from fastgan.systems.adversarial import AdversarialConfig, AdversarialSystem, State
from fastgan.systems.base import Part, choices
from fastgan.systems.quick import Preset


@dataclass(frozen=True)
class ACGANConfig(AdversarialConfig):
    """Defaults of the paper's appendix for CIFAR-10. (Its batches are of 100 images.)"""

    resolution: int = option(32, "pixels a side", choices=POWERS_OF_TWO)
    width: int = option(96, "channels of the generator's largest maps; they double at each halving of the map, to 4x4")
    discriminator_width: int | None = option(None, "of its first layer; none: a sixth of width")
    dropout: float = 0.5
    classes: int = option(10, "of the data", least=2)
    class_weight: float = option(1.0, "of the classes' part of both losses", least=0, on_resume="differs")


class ACGAN(AdversarialSystem):
    """Images of a class that is asked for; the discriminator tells fakes and classes (Odena 2017)."""

    name: ClassVar[str] = "acgan"
    Config: ClassVar[type] = ACGANConfig

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        return Preset({"width": 32, "discriminator_width": 8, "dropout": 0.3, "learning_rate": 1e-3}, {})

    def __init__(self, config: ACGANConfig) -> None:
        super().__init__(config)
        self.classes = config.classes
        self.generator = generator(config)
        self.discriminator = Discriminator(config)
        init.dcgan(self)

    def objective(self) -> AuxiliaryClassifier:
        return AuxiliaryClassifier(super().objective(), self.config.class_weight)

    def prepare(self, batch: Any) -> State:
        if "label" not in batch:
            raise ValueError(f"{self.name} needs data with labels; these have none")
        return super().prepare(batch)

    def fake_labels(self, count: int) -> Tensor:
        return choices(count, self.classes, self)

    def discriminator_loss(self, state: State, part: int = 0) -> Iterator[Part]:
        assert state.labels is not None
        count = len(state.real) // self.config.discriminator_steps
        rows = slice(part * count, (part + 1) * count)
        real, real_labels = state.real[rows], state.labels[rows]
        if part == 0:
            fake, fake_labels = state.fake[:count].detach(), state.fake_labels[:count]  # type: ignore[index]
        else:
            fake_labels = self.fake_labels(count)
            with torch.no_grad():
                fake = self.generate(self.latent(count), fake_labels)
        (real_logits, real_classes), (fake_logits, fake_classes) = paired(
            self.discriminator, self.augment(real), self.augment(fake)
        )
        yield self.loss.discriminator_logged(
            real_logits, fake_logits, real_classes=real_classes, real_labels=real_labels, fake_classes=fake_classes,
            fake_labels=fake_labels,
        )  # fmt: skip
        yield from self.penalties(real, fake)

    def generator_loss(self, state: State) -> Part:
        logits, classes = self.discriminator(self.augment(state.fake))
        return self.loss.generator_logged(logits, fake_classes=classes, fake_labels=state.fake_labels)

    def logits(self, images: Tensor) -> Tensor:
        return self.discriminator(self.augment(images))[0]

    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N, latent) and (N,) labels -> (N, C, H, W)"""
        self.check(latent, labels)
        assert labels is not None
        return self.generator(torch.cat([latent, F.one_hot(labels, self.classes).to(latent)], 1))

    def check(self, latent: Tensor, labels: Tensor | None) -> None:
        if backend.traced():
            return
        super().check(latent, None)
        if labels is None or labels.dtype != torch.int64 or labels.shape != latent.shape[:1]:
            given = "none" if labels is None else f"{labels.dtype} {tuple(labels.shape)}"
            raise ValueError(f"{self.name} is conditional: labels must be int64 of shape ({len(latent)},), not {given}")
        if not (self.training or backend.recorded()) and (labels.min() < 0 or labels.max() >= self.classes):
            raise ValueError(f"labels must lie in 0..{self.classes - 1}, not {labels.min()}..{labels.max()}")


def generator(config: ACGANConfig) -> nn.Sequential:
    """(N, latent + classes) -> (N, channels, resolution, resolution) in [-1, 1]"""
    width = config.width << int(math.log2(config.resolution)) - 3
    layers: list[nn.Module] = [
        nn.Linear(config.latent + config.classes, 16 * width),
        nn.ReLU(True),
        nn.Unflatten(1, (width, 4, 4)),
    ]
    while width > config.width:
        layers += [
            nn.ConvTranspose2d(width, width // 2, 5, 2, 2, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(True),
        ]
        width //= 2
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, config.channels, 5, 2, 2, 1), nn.Tanh())


class Discriminator(nn.Module):
    """(N, channels, resolution, resolution) -> (N,) logits of a real image, (N, classes) logits"""

    def __init__(self, config: ACGANConfig) -> None:
        super().__init__()
        width, before = config.discriminator_width or max(1, config.width // 6), config.channels
        layers: list[nn.Module] = []
        for level, stride in enumerate((2, 1, 2, 1, 2, 1)):
            after = width << level
            norm = [nn.BatchNorm2d(after)] if level else []
            layers += [
                nn.Conv2d(before, after, 3, stride, 1, bias=not level),
                *norm,
                nn.LeakyReLU(0.2, True),
                Dropout(config.dropout),
            ]
            before = after
        self.features = nn.Sequential(*layers, nn.Flatten())
        size = before * (config.resolution // 8) ** 2
        self.source = nn.Linear(size, 1)
        self.classes = nn.Linear(size, config.classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return self.source(features).flatten(), self.classes(features)
