"""DCGAN: Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks", 2016."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastgan.networks import dcgan
from fastgan.nn import init
from fastgan.systems.adversarial import AdversarialConfig, AdversarialSystem, power_of_two, with_dropout


@dataclass(frozen=True)
class DCGANConfig(AdversarialConfig):
    """Defaults of pytorch/examples dcgan/main.py. (The paper's own code has 5x5 kernels and width 128.)"""

    resolution: int = 64  # pixels a side, a power of two from 16 to 256
    width: int = 64  # channels of the largest maps; they double at each halving of the map, down to 4x4
    slope: float = 0.2  # of the discriminator's leaky ReLU
    # transposed convolutions; or resize: to twice the size, then 3x3 convolutions, against checkerboards (Odena 2016)
    upsampling: str = "transposed"

    def __post_init__(self) -> None:
        super().__post_init__()
        power_of_two(self)
        if not 0 <= self.slope < math.inf:
            raise ValueError(f"slope must be a number of at least 0, not {self.slope}")
        if self.upsampling not in dcgan.UPSAMPLING:
            raise ValueError(f"upsampling must be one of {', '.join(dcgan.UPSAMPLING)}, not {self.upsampling!r}")


class DCGAN(AdversarialSystem):
    """Strided and transposed convolutions, no pooling, any power-of-two size; non-saturating loss (Radford 2016)."""

    name: ClassVar[str] = "dcgan"
    Config: ClassVar[type] = DCGANConfig

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
