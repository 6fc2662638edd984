"""DCGAN: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", 2016."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastgan.data.fields import Field
from fastgan.networks import dcgan
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
    Upsampling,
)  # fmt: skip
from fastgan.systems.adversarial import AdversarialSystem, with_dropout
from fastgan.systems.quick import Preset, augmented, gray


@dataclass(frozen=True)
class DCGANNetworks(Upsampling, Networks):
    resolution: int = option(64, "pixels a side", choices=POWERS_OF_TWO)
    width: int = option(64, "channels of the largest maps; they double at each halving of the map, down to 4x4")
    slope: float = option(0.2, "of the discriminator's leaky ReLU", least=0)


@dataclass(frozen=True)
class DCGANConfig(Decay, R1, Augmentation, LabelNoise, Forgetting, Adam, Players, DCGANNetworks):
    """Defaults of pytorch/examples dcgan/main.py. (The paper's own code has 5x5 kernels and width 128.)"""


class DCGAN(AdversarialSystem):
    """Strided and transposed convolutions, no pooling, any power-of-two size; non-saturating loss (Radford 2016)."""

    name: ClassVar[str] = "dcgan"
    Config: ClassVar[type] = DCGANConfig

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        width = 16 if gray(fields) else 32  # as near to digits as with 32, in half of the time
        options = {"width": width, "upsampling": "resize", "r1": 1.0, **augmented(fields, rows)}
        return Preset(options, {"batch_size": 32})

    def __init__(self, config: DCGANConfig) -> None:
        super().__init__(config)
        size = config.resolution, config.channels
        self.generator = dcgan.generator(config.latent, config.width, *size, config.upsampling)
        discriminator = dcgan.discriminator(config.discriminator_width or config.width, *size, config.slope)
        self.discriminator = with_dropout(discriminator, config.dropout)
        init.dcgan(self)

    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        self.check(latent, labels)
        return self.generator(latent[:, :, None, None])
