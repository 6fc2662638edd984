"""Autoencoder, and adversarial autoencoder: Makhzani, Shlens, Jaitly, Goodfellow, Frey, "Adversarial Autoencoders",
2015."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan import backend
from fastgan.data.fields import Field
from fastgan.distributed import mean_of_processes
from fastgan.losses import NonSaturating
from fastgan.nn import init
from fastgan.options import option
from fastgan.options.groups import POWERS_OF_TWO, Adam, Networks
from fastgan.systems.base import Part, Phase, adam, normal
from fastgan.systems.generative import Generative
from fastgan.systems.quick import Preset

DECAY = 0.99  # of the running moments of the codes


@dataclass(frozen=True)
class AutoencoderConfig(Adam, Networks):
    """DCGAN's layers between images and codes. (The paper's networks are two layers of 1000 units, as the adversary of
    the codes is here.)"""

    resolution: int = option(32, "pixels a side", choices=POWERS_OF_TWO)
    latent: int = option(32, "size of a code")
    width: int = option(64, "channels of the largest maps; they double at each halving of the map, down to 4x4")
    learning_rate: float = option(1e-3, "of Adam, encoder and decoder")
    betas: tuple[float, float] = option((0.9, 0.999), "of Adam, encoder and decoder")
    adversarial: bool = option(False, "a discriminator makes the codes N(0, I)")
    adversarial_learning_rate: float = option(
        2e-4, "of Adam, the discriminator of codes, and the encoder against it", above=0, on_resume="differs"
    )
    adversarial_betas: tuple[float, float] = option(
        (0.5, 0.999), "of Adam, likewise", least=0, below=1, on_resume="differs"
    )
    adversarial_width: int = option(1000, "units of the discriminator's two layers", least=1)


class State(NamedTuple):
    images: Tensor  # (N, C, H, W)
    prior: Tensor | None  # (N, latent): what codes are to be like


class Autoencoder(Generative):
    """Encoder and decoder, with an adversary that makes codes normally distributed if asked for (Makhzani 2015)."""

    name: ClassVar[str] = "autoencoder"
    Config: ClassVar[type] = AutoencoderConfig
    averaged: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "codes")
    loss: ClassVar[NonSaturating] = NonSaturating()

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        return Preset({"width": 8, "latent": 16, "learning_rate": 2e-3}, {"steps": 500})

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        self.encoder = encoder(config)
        self.decoder = decoder(config)
        init.dcgan(self)
        if config.adversarial:
            self.discriminator = discriminator(config)
        else:
            self.codes = Gaussian(config.latent)

    def phases(self) -> list[Phase]:
        config, pair = self.config, nn.ModuleList([self.encoder, self.decoder])
        reconstruction = adam(pair, config.learning_rate, config.betas)
        phases = [Phase("reconstruction", (self.encoder, self.decoder), self.reconstruction_loss, reconstruction)]
        if config.adversarial:
            settings = config.adversarial_learning_rate, config.adversarial_betas
            phases += [
                Phase("discriminator", (self.discriminator,), self.discriminator_loss,
                      adam(self.discriminator, *settings)),
                Phase("generator", (self.encoder,), self.generator_loss, adam(self.encoder, *settings)),
            ]  # fmt: skip
        return phases

    def prepare(self, batch: Any) -> State:
        return State(batch.image, self.latent(len(batch.image)) if self.config.adversarial else None)

    def reconstruction_loss(self, state: State) -> Part:
        """The mean squared difference between images and what decoder and encoder make of them."""
        codes = self.encoder(state.images)
        if not self.config.adversarial:
            self.codes.follow(codes.detach())
        restored = self.decoder(codes)
        return F.mse_loss(restored.to(state.images.dtype), state.images), {}

    def discriminator_loss(self, state: State) -> Part:
        with torch.no_grad():
            codes = self.encoder(state.images)
        return self.loss.discriminator_logged(
            self.discriminator(state.prior).flatten(), self.discriminator(codes).flatten()
        )

    def generator_loss(self, state: State) -> Part:
        return self.loss.generator_logged(self.discriminator(self.encoder(state.images)).flatten())

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, latent), of which `generate` makes the images again, in the mode that is set.
        Over the data they are about N(0, I): with an adversary the codes, else the codes less their mean, divided by
        the root of their covariance."""
        if images.dim() != 4 or images.shape[1:] != self.image_shape:
            shape = ", ".join(map(str, self.image_shape))
            raise ValueError(f"images must have shape (N, {shape}), not {tuple(images.shape)}")
        codes = self.encoder(images)
        return codes if self.config.adversarial else self.codes.standardised(codes)

    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            raise ValueError(f"{self.name} is not conditional: labels must be None")
        if not backend.traced() and (latent.dim() != 2 or latent.shape[1] != self.config.latent):
            raise ValueError(f"latent must have shape (N, {self.config.latent}), not {tuple(latent.shape)}")
        return self.decoder(latent if self.config.adversarial else self.codes(latent))

    def freeze(self) -> None:
        self.codes.fixed = self.codes.root()

    def latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return normal((count, self.config.latent), self, generator)


class Gaussian(nn.Module):
    """The distribution of the codes of late, fitted to N(mean, covariance). Standard normal latents (N, size) -> codes

    Computed in the dtype of its buffers whatever autocast says."""

    statistics = ("mean", "covariance")  # that a moving average of the networks averages too
    mean: Tensor  # (size,)
    covariance: Tensor  # (size, size)
    fixed: Tensor | None = None  # its root, where the moments do not move any more

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("covariance", torch.eye(size))

    @torch.no_grad()
    def follow(self, codes: Tensor) -> None:
        """Moves the moments towards those of a batch (N, size)."""
        with torch.autocast(codes.device.type, enabled=False):
            codes = codes.to(self.mean.dtype)
            mean = mean_of_processes(codes.mean(0))
            away = codes - mean
            self.covariance.lerp_(mean_of_processes(away.T @ away / len(codes)), 1 - DECAY)
            self.mean.lerp_(mean, 1 - DECAY)

    def forward(self, latent: Tensor) -> Tensor:
        if self.fixed is not None:
            return self.mean + latent @ self.fixed.T
        with torch.autocast(latent.device.type, enabled=False):
            return self.mean + latent.to(self.mean.dtype) @ self.root().T

    def standardised(self, codes: Tensor) -> Tensor:
        """What `forward` makes these codes of."""
        with torch.autocast(codes.device.type, enabled=False):
            away = codes.to(self.mean.dtype) - self.mean
            return torch.linalg.solve_triangular(self.root(), away.T, upper=False).T

    def root(self) -> Tensor:
        """(size, size), lower triangular: of the covariance."""
        # A little more of the diagonal, because dimensions may depend on each other.
        least = 1e-5 * self.covariance.diagonal().mean().clamp(min=1e-12)
        return torch.linalg.cholesky(self.covariance + torch.diag(least.expand_as(self.mean)))


def encoder(config: AutoencoderConfig) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, latent)"""
    width, before = config.width, config.channels
    layers: list[nn.Module] = []
    for level in range(int(math.log2(config.resolution)) - 2):
        after = width << level
        norm = [nn.BatchNorm2d(after)] if level else []
        layers += [nn.Conv2d(before, after, 4, 2, 1, bias=not level), *norm, nn.LeakyReLU(0.2, True)]
        before = after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * before, config.latent))


def decoder(config: AutoencoderConfig) -> nn.Sequential:
    """(N, latent) -> (N, channels, resolution, resolution) in [-1, 1]"""
    width = config.width << int(math.log2(config.resolution)) - 3
    layers: list[nn.Module] = [
        nn.Linear(config.latent, 16 * width, bias=False),
        nn.BatchNorm1d(16 * width),
        nn.ReLU(True),
        nn.Unflatten(1, (width, 4, 4)),
    ]
    while width > config.width:
        layers += [
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(True),
        ]
        width //= 2
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, config.channels, 4, 2, 1), nn.Tanh())


def discriminator(config: AutoencoderConfig) -> nn.Sequential:
    """(N, latent) -> (N, 1) logits of a code that was drawn from N(0, I)"""
    width = config.adversarial_width
    return nn.Sequential(
        nn.Linear(config.latent, width), nn.ReLU(True), nn.Linear(width, width), nn.ReLU(True), nn.Linear(width, 1)
    )
