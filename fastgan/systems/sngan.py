"""SNGAN: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from fastgan.data.fields import Field
from fastgan.losses import Hinge
from fastgan.networks import perceptron, residual
from fastgan.options import option
from fastgan.systems.adversarial import AdversarialConfig, AdversarialSystem, with_dropout
from fastgan.systems.quick import STEPS, Preset, for_points, of_points
from fastgan.systems.wgan_gp import RESOLUTIONS


@dataclass(frozen=True)
class SNGANConfig(AdversarialConfig):
    """Defaults of the authors' code for CIFAR-10, and at 64x64 the networks of its successor (Miyato and Koyama 2018).

    The generator's learning rate falls with the discriminator's, to 0 after 50,000 steps."""

    resolution: int = option(32, "pixels a side, or 1 for points of `channels` numbers", choices=RESOLUTIONS)
    latent: int = 128
    width: int = option(
        256, "channels of all maps at 32; at 64 from 4 times as many to a quarter; of the first layer for points"
    )
    discriminator_width: int | None = 128
    betas: tuple[float, float] = (0.0, 0.9)
    discriminator_steps: int = 5
    generator_batches: int = 2
    decay: str = "linear"
    decay_steps: int = 50_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "discriminator_width"):
            if self.resolution == 64 and (getattr(self, name) or 4) % 4:
                raise ValueError(f"{name} must be a multiple of 4 at resolution 64, not {getattr(self, name)}")


class SNGAN(AdversarialSystem):
    """Residual networks; a discriminator whose layers have spectral norm 1; hinge loss (Miyato 2018)."""

    name: ClassVar[str] = "sngan"
    Config: ClassVar[type] = SNGANConfig
    Loss = Hinge

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        if of_points(fields):
            return for_points(steps, width=128, discriminator_width=128)
        widths = {"width": 32, "discriminator_width": 32}
        return Preset({**widths, "discriminator_steps": 2, "decay_steps": steps or STEPS}, {"batch_size": 16})

    def __init__(self, config: SNGANConfig) -> None:
        super().__init__(config)
        width = config.discriminator_width or config.width
        if config.resolution == 1:
            self.generator = perceptron.generator(config.latent, config.width, config.channels)
            discriminator = perceptron.discriminator(config.channels, width)
        else:
            of_maps = widths(config.resolution, config.width)
            self.generator = residual.generator(config.latent, of_maps, config.channels)
            discriminator = residual.discriminator(config.channels, width, config.resolution)
        self.discriminator = with_dropout(discriminator, config.dropout)
        for module in self.discriminator.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                spectral_norm(module)


def widths(resolution: int, width: int) -> list[int]:
    """Channels of the generator's maps of 4x4, 8x8, ... pixels."""
    return [4 * width, 2 * width, width, width // 2, width // 4] if resolution == 64 else [width] * 4
