"""WGAN-GP: Gulrajani et al., "Improved Training of Wasserstein GANs", 2017."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fastgan.data.fields import Field
from fastgan.losses import Wasserstein, gradient_penalty
from fastgan.networks import perceptron, residual
from fastgan.options import option
from fastgan.options.groups import R1, Adam, Augmentation, Decay, Forgetting, LabelNoise, Networks, Players
from fastgan.systems.adversarial import AdversarialSystem, with_dropout
from fastgan.systems.base import Part
from fastgan.systems.quick import Preset, for_points, of_points
from fastgan.systems.wgan import NO_TARGETS

RESOLUTIONS = (1, 32, 64)


@dataclass(frozen=True)
class WGANGPConfig(Decay, R1, Augmentation, Forgetting, Adam, Players, Networks):
    """Defaults of the authors' code for 64x64. (For 32x32 it has learning_rate 2e-4, decay linear over 100,000 steps
    and generator_batches 2.)"""

    resolution: int = option(64, "pixels a side, or 1 for points of `channels` numbers", choices=RESOLUTIONS)
    latent: int = 128
    width: int = option(
        64, "channels of the largest maps at 64; half of all maps' at 32; of the first layer for points"
    )
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.0, 0.9)
    discriminator_steps: int = 5
    penalty: float = option(10.0, "weight of (|grad D(x)| - 1)^2", least=0, on_resume="differs")
    without: ClassVar[Mapping[type, str]] = {LabelNoise: NO_TARGETS}


class WGANGP(AdversarialSystem):
    """Residual networks; a critic whose gradients are pulled to norm 1 between real and generated (Gulrajani 2017)."""

    name: ClassVar[str] = "wgan-gp"
    Config: ClassVar[type] = WGANGPConfig
    Loss = Wasserstein

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        if of_points(fields):
            return for_points(steps, width=128, penalty=0.1)
        return Preset({"width": 16, "learning_rate": 2e-4, "discriminator_steps": 2}, {"batch_size": 32})

    def __init__(self, config: WGANGPConfig) -> None:
        super().__init__(config)
        width = config.discriminator_width or config.width
        if config.resolution == 1:
            self.generator = perceptron.generator(config.latent, config.width, config.channels)
            critic = perceptron.discriminator(config.channels, width)
        else:
            of_maps = widths(config.resolution, config.width)
            self.generator = residual.generator(config.latent, of_maps, config.channels)
            critic = residual.critic(config.channels, widths(config.resolution, width)[::-1])
        self.discriminator = with_dropout(critic, config.dropout)

    def penalties(self, real: Tensor, fake: Tensor) -> Iterator[Part]:
        yield gradient_penalty(self.logits, real, fake, self.config.penalty), {}
        yield from super().penalties(real, fake)


def widths(resolution: int, width: int) -> list[int]:
    """Channels of the maps of 4x4, 8x8, ... pixels."""
    return [8 * width, 8 * width, 4 * width, 2 * width, width] if resolution == 64 else [2 * width] * 4
