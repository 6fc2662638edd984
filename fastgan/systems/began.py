"""BEGAN: Berthelot, Schumm, Metz, "BEGAN: Boundary Equilibrium Generative Adversarial Networks", 2017."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastgan.data.fields import Field
from fastgan.distributed import mean_of_processes
from fastgan.fusion.paired import paired
from fastgan.losses import BoundaryEquilibrium
from fastgan.nn import init
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
from fastgan.systems.adversarial import AdversarialSystem, State
from fastgan.systems.base import Part, uniform
from fastgan.systems.quick import Preset


@dataclass(frozen=True)
class BEGANConfig(Decay, Adam, Players, Networks):
    """Defaults of the paper and its best known implementation, whose batches are of 16 images. (The latter halves the
    learning rate twice at most.)"""

    resolution: int = option(64, "pixels a side", choices=POWERS_OF_TWO)
    latent: int = option(64, "size of z, and of the discriminator's code")
    width: int = 128
    learning_rate: float = 8e-5
    betas: tuple[float, float] = (0.9, 0.999)
    decay: str = "halve"
    decay_steps: int = 100_000
    gamma: float = option(
        0.5, "how far apart the errors of real and generated images are kept; lower: better, less diverse", least=0,
        most=1, on_resume="differs",
    )  # fmt: skip
    lambda_k: float = option(1e-3, "how fast k follows", least=0, on_resume="differs")
    without: ClassVar[Mapping[type, str]] = dict.fromkeys(
        (Forgetting, LabelNoise, Augmentation, R1), "the discriminator is an autoencoder, which has no logits"
    )


class BEGAN(AdversarialSystem):
    """An autoencoder as discriminator, which restores real images better; boundary equilibrium (Berthelot 2017)."""

    name: ClassVar[str] = "began"
    Config: ClassVar[type] = BEGANConfig
    loss: Any

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        networks = {"resolution": 16, "width": 16, "discriminator_width": 8, "latent": 16}
        rates = {"learning_rate": 1e-3, "discriminator_learning_rate": 5e-4}
        return Preset({**networks, **rates, "gamma": 1.0, "lambda_k": 0.1}, {"batch_size": 16, "steps": 4000})

    def __init__(self, config: BEGANConfig) -> None:
        super().__init__(config)
        self.generator = decoder(config)
        width = config.discriminator_width or config.width
        self.discriminator = nn.Sequential(encoder(config, width), decoder(config, width))
        init.xavier(self)

    def objective(self) -> BoundaryEquilibrium:
        return BoundaryEquilibrium(self.config.gamma, self.config.lambda_k)

    def told_apart(self, real: Tensor, fake: Tensor) -> Iterator[Part]:
        restored, fake_restored = paired(self.discriminator, real, fake)
        errors = self.loss.error(real, restored), self.loss.error(fake, fake_restored)
        loss = self.loss.discriminator(*errors)
        convergence = self.loss.update(*mean_of_processes(torch.stack(errors).detach()))
        names = "real_error", "fake_error"
        logged = {name: error.detach() for name, error in zip(names, errors)}
        yield loss, {**logged, "k": self.loss.k.clone(), "convergence": convergence}

    def generator_loss(self, state: State) -> Part:
        return self.loss.generator(self.loss.error(state.fake, self.discriminator(state.fake))), {}

    def latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return uniform((count, self.config.latent), self, generator)

    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        images = super().generate(latent, labels)
        return images if self.training else images.clamp(-1, 1)  # the last layer is linear


def decoder(config: BEGANConfig, width: int | None = None) -> nn.Sequential:
    """(N, latent) -> (N, channels, resolution, resolution)"""
    width = width or config.width
    layers: list[nn.Module] = [nn.Linear(config.latent, 64 * width), nn.Unflatten(1, (width, 8, 8))]
    for scale in range(scales(config)):
        if scale:
            layers.append(nn.Upsample(scale_factor=2))
        for _ in range(2):
            layers += [nn.Conv2d(width, width, 3, 1, 1), nn.ELU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(width, config.channels, 3, 1, 1))


def encoder(config: BEGANConfig, width: int) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, latent)"""
    layers: list[nn.Module] = [nn.Conv2d(config.channels, width, 3, 1, 1), nn.ELU(inplace=True)]
    before = width
    for scale in range(scales(config)):
        after = width * (scale + 1)
        layers += [nn.Conv2d(before, after, 3, 1, 1), nn.ELU(inplace=True)]
        layers += [nn.Conv2d(after, after, 3, 1, 1), nn.ELU(inplace=True)]
        if scale < scales(config) - 1:
            layers += [nn.Conv2d(after, after, 3, 2, 1), nn.ELU(inplace=True)]
        before = after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * before, config.latent))


def scales(config: BEGANConfig) -> int:
    """From 8x8 maps to those of the image's size."""
    return int(math.log2(config.resolution)) - 2
