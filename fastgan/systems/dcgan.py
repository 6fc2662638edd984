"""DCGAN: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", 2016."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fastgan.fusion.paired import paired
from fastgan.losses import NonSaturating
from fastgan.nn import ConvNormAct2d, ConvTransposeNormAct2d, init
from fastgan.systems.base import Phase, System, adam, normal


@dataclass(frozen=True)
class DCGANConfig:
    """Defaults of pytorch/examples dcgan/main.py. (The paper's own code has 5x5 kernels and width 128.)"""

    resolution: int = 64  # pixels a side, a power of two from 16 to 256
    channels: int = 3  # of an image
    latent: int = 100  # size of z
    width: int = 64  # channels of the largest maps; they double at each halving of the map, down to 4x4
    slope: float = 0.2  # of the discriminator's leaky ReLU
    learning_rate: float = 2e-4  # Adam, both networks
    betas: tuple[float, float] = (0.5, 0.999)  # Adam, both networks

    def __post_init__(self) -> None:
        if self.resolution not in (16, 32, 64, 128, 256):
            near = sorted((16, 32, 64, 128, 256), key=lambda size: abs(size - self.resolution))[:2]
            raise ValueError(
                f"resolution must be a power of two from 16 to 256, not {self.resolution}; "
                f"the nearest are {min(near)} and {max(near)}"
            )
        for name in ("channels", "latent", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be a positive number, not {self.learning_rate}")
        if not 0 <= self.slope < math.inf:
            raise ValueError(f"slope must be a number of at least 0, not {self.slope}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), not {self.betas}")


class State(NamedTuple):
    real: Tensor  # (N, C, H, W)
    fake: Tensor  # (N, C, H, W), with the generator's graph


class DCGAN(System):
    """Strided and transposed convolutions, no pooling, any power-of-two size; non-saturating loss (Radford 2016)."""

    name: ClassVar[str] = "dcgan"
    Config: ClassVar[type] = DCGANConfig
    loss: ClassVar[NonSaturating] = NonSaturating()

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__(config)
        self.generator = generator(config)
        self.discriminator = discriminator(config)
        init.dcgan(self)

    def phases(self) -> list[Phase]:
        def phase(name: str, network: nn.Module, loss: Any) -> Phase:
            return Phase(name, (network,), loss, adam(network, self.config.learning_rate, self.config.betas))

        return [
            phase("discriminator", self.discriminator, self.discriminator_loss),
            phase("generator", self.generator, self.generator_loss),
        ]

    def prepare(self, batch: Any) -> State:
        return State(batch.images, self.generate(self.latent(len(batch.images))))

    def discriminator_loss(self, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        real, fake = paired(self.discriminator, state.real, state.fake.detach())
        return self.loss.discriminator_logged(real.flatten(), fake.flatten())

    def generator_loss(self, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        fake = self.logits(state.fake)  # a fresh pass: the discriminator has moved since its own phase
        return self.loss.generator_logged(fake)

    def logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N,)"""
        return self.discriminator(images).flatten()

    def latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return normal((count, self.config.latent), self, generator)

    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None:
            raise ValueError("dcgan is not conditional: labels must be None")
        if latent.dim() != 2 or latent.shape[1] != self.config.latent:
            raise ValueError(f"latent must have shape (N, {self.config.latent}), not {tuple(latent.shape)}")
        return self.generator(latent[:, :, None, None])


def generator(config: DCGANConfig) -> nn.Sequential:
    """(N, latent, 1, 1) -> (N, channels, resolution, resolution) in [-1, 1]"""
    widths = [config.width * config.resolution // 8 >> level for level in range(int(math.log2(config.resolution)) - 2)]
    layers: list[nn.Module] = [ConvTransposeNormAct2d(config.latent, widths[0], 4, 1, 0, act="relu")]
    for wide, narrow in pairwise(widths):
        layers.append(ConvTransposeNormAct2d(wide, narrow, 4, 2, 1, act="relu"))
    layers.append(ConvTransposeNormAct2d(widths[-1], config.channels, 4, 2, 1, norm=None, act="tanh"))
    return nn.Sequential(*layers)


def discriminator(config: DCGANConfig) -> nn.Sequential:
    """(N, channels, resolution, resolution) -> (N, 1, 1, 1) logits"""
    act, slope = "leaky_relu", config.slope
    widths = [config.width << level for level in range(int(math.log2(config.resolution)) - 2)]
    layers: list[nn.Module] = [ConvNormAct2d(config.channels, widths[0], 4, 2, 1, norm=None, act=act, slope=slope)]
    for narrow, wide in pairwise(widths):
        layers.append(ConvNormAct2d(narrow, wide, 4, 2, 1, act=act, slope=slope))
    layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False))
    return nn.Sequential(*layers)
