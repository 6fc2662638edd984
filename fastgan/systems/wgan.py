"""WGAN: Arjovsky, Chintala, Bottou, "Wasserstein Generative Adversarial Networks", 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fastgan.losses import Wasserstein
from fastgan.systems import dcgan
from fastgan.systems.adversarial import State, at_least


@dataclass(frozen=True)
class WGANConfig(dcgan.DCGANConfig):
    """Defaults of the authors' code. (It also gives the critic 100 updates a step in the first 25 steps and in every
    500th.)"""

    learning_rate: float = 5e-5  # RMSprop, both networks; its betas are not used
    discriminator_steps: int = 5
    clip: float = 0.01  # the largest magnitude of a weight of the critic

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, self, "clip")


class WGAN(dcgan.DCGAN):
    """DCGAN's networks; a critic with clipped weights measures the Wasserstein distance (Arjovsky 2017)."""

    name: ClassVar[str] = "wgan"
    Config: ClassVar[type] = WGANConfig
    Loss = Wasserstein

    def optimizer(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(network.parameters(), lr=learning_rate)

    def discriminator_loss(self, state: State, part: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad():  # before each update, as the authors' code does
            for weight in self.discriminator.parameters():
                weight.clamp_(-self.config.clip, self.config.clip)
        return super().discriminator_loss(state, part)
