"""WGAN: Arjovsky, Chintala, Bottou, "Wasserstein Generative Adversarial Networks", 2017."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from fastgan.data.fields import Field
from fastgan.losses import Wasserstein
from fastgan.options import option
from fastgan.options.groups import R1, Adam, Augmentation, Decay, Forgetting, LabelNoise, Players
from fastgan.systems.adversarial import State
from fastgan.systems.base import Part
from fastgan.systems.dcgan import DCGAN, DCGANNetworks
from fastgan.systems.quick import Preset

NO_TARGETS = "a critic has no targets that could be moved"


@dataclass(frozen=True)
class WGANConfig(Decay, R1, Augmentation, Forgetting, Players, DCGANNetworks):
    """Defaults of the authors' code. (It also gives the critic 100 updates a step in the first 25 steps and in every
    500th.)"""

    learning_rate: float = option(5e-5, "of RMSprop, both networks")
    discriminator_steps: int = 5
    clip: float = option(0.01, "the largest magnitude of a weight of the critic", above=0, on_resume="differs")
    without: ClassVar[Mapping[type, str]] = {
        Adam: "RMSprop, which the paper trains both networks with, has none",
        LabelNoise: NO_TARGETS,
    }


class WGAN(DCGAN):
    """DCGAN's networks; a critic with clipped weights measures the Wasserstein distance (Arjovsky 2017)."""

    name: ClassVar[str] = "wgan"
    Config: ClassVar[type] = WGANConfig
    Loss = Wasserstein

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        return Preset({"width": 32, "learning_rate": 2e-4}, {"batch_size": 32})

    def optimizer(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(network.parameters(), lr=learning_rate)

    def discriminator_loss(self, state: State, part: int = 0) -> Iterator[Part]:
        with torch.no_grad():  # before each update, as the authors' code does
            for weight in self.discriminator.parameters():
                weight.clamp_(-self.config.clip, self.config.clip)
        return super().discriminator_loss(state, part)
