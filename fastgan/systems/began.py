"""BEGAN: Berthelot, Schumm, Metz, "BEGAN: Boundary Equilibrium Generative Adversarial Networks", 2017."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastgan.distributed import mean_of_processes
from fastgan.fusion.paired import paired
from fastgan.losses import BoundaryEquilibrium
from fastgan.nn import init
from fastgan.systems.adversarial import AdversarialConfig, AdversarialSystem, State, at_least, power_of_two
from fastgan.systems.base import Part, uniform
from fastgan.systems.config import refuse


@dataclass(frozen=True)
class BEGANConfig(AdversarialConfig):
    """Defaults of the paper and its best known implementation, whose batches are of 16 images. (The latter halves the
    learning rate twice at most.)"""

    latent: int = 64  # size of z, and of the discriminator's code
    width: int = 128
    learning_rate: float = 8e-5
    betas: tuple[float, float] = (0.9, 0.999)
    decay: str = "halve"
    decay_steps: int = 100_000
    gamma: float = 0.5  # how far apart the errors of real and generated images are kept; lower: better, less diverse
    lambda_k: float = 1e-3  # how fast k follows

    def __post_init__(self) -> None:
        super().__post_init__()
        power_of_two(self)
        for name in ("gamma", "lambda_k"):
            at_least(0, self, name)
        if self.gamma > 1:
            raise ValueError(f"gamma must be at most 1, not {self.gamma}")
        reason = "the discriminator is an autoencoder, which has no logits"
        refuse(self, reason, "dropout", "label_smoothing", "label_noise", "label_flips", "augment", "r1", "r1_every")


class BEGAN(AdversarialSystem):
    """An autoencoder as discriminator, which restores real images better; boundary equilibrium (Berthelot 2017)."""

    name: ClassVar[str] = "began"
    Config: ClassVar[type] = BEGANConfig
    loss: Any

    def __init__(self, config: BEGANConfig) -> None:
        super().__init__(config)
        self.loss = BoundaryEquilibrium(config.gamma, config.lambda_k)
        self.generator = decoder(config)
        width = config.discriminator_width or config.width
        self.discriminator = nn.Sequential(encoder(config, width), decoder(config, width))
        init.xavier(self)

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
