"""pix2pix: Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", 2017."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastgan import backend
from fastgan.data.fields import Batch, Field
from fastgan.fusion.paired import paired
from fastgan.networks.patchgan import patchgan
from fastgan.networks.unet import NORMS, UNet
from fastgan.nn import Dropout, init
from fastgan.options import option
from fastgan.options.groups import POWERS_OF_TWO
from fastgan.random import drawing_from
from fastgan.systems.base import Part, Phase
from fastgan.systems.patches import LOSSES, PatchConfig, PatchTranslator
from fastgan.systems.quick import Preset
from fastgan.systems.remedies import COPIES, Remedy


@dataclass(frozen=True)
class Pix2PixConfig(PatchConfig):
    """Defaults of the authors' code, for batches of one picture."""

    resolution: int = option(256, "pixels a side", choices=POWERS_OF_TWO)
    levels: int | None = option(None, "halvings in the U-Net; none: down to one pixel", least=2)
    norm: str = option(
        "instance",
        "instance: what the paper's batch norm is for batches of one picture, in training and after; batch: for larger "
        "ones, and afterwards with the statistics of all that it was trained on",
        choices=tuple(NORMS),
    )
    dropout: float = option(0.5, "the share of its features that each of three layers forgets", least=0, below=1)
    noise: bool = option(False, "dropout after training too, the paper's noise: one picture twice becomes two")
    l1: float = option(100.0, "weight of mean |target - output|", least=0, on_resume="differs")
    loss: str = option("non_saturating", "of the discriminator and the generator", choices=tuple(LOSSES))

    def __post_init__(self) -> None:
        super().__post_init__()
        most = self.resolution.bit_length() - 1
        if (self.levels or most) > most:
            raise ValueError(
                f"levels must be at most {most} for pictures of {self.resolution} pixels a side, not {self.levels}"
            )


class State(NamedTuple):
    """Of N pairs: (N, C, H, W) each."""

    source: Tensor
    target: Tensor
    fake: Tensor  # made of the source, with the generator's graph


class Pix2Pix(PatchTranslator):
    """Pairs: a U-Net, and a discriminator of patches that sees what they were made of; L1 beside it (Isola 2017)."""

    name: ClassVar[str] = "pix2pix"
    Config: ClassVar[type] = Pix2PixConfig
    trains_on: ClassVar[str] = "fluent"
    against: ClassVar[Mapping[str, tuple[Remedy, ...]]] = {COPIES: (Remedy("a larger l1"),)}

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        options = {
            "resolution": 64, "width": 24, "discriminator_width": 16, "norm": "batch", "upsampling": "resize",
        }  # fmt: skip
        return Preset(options, {"batch_size": 8, "flip": True, "jitter": 6})

    def __init__(self, config: Pix2PixConfig) -> None:
        super().__init__(config)
        levels = config.levels or config.resolution.bit_length() - 1
        channels = config.channels
        self.generator = UNet(config.width, levels, channels, channels, config.norm, config.dropout, config.upsampling)
        self.discriminator = patchgan(
            2 * channels, config.discriminator_width or config.width, config.layers, config.norm
        )
        init.dcgan(self)
        self.loss = LOSSES[config.loss]()

    @property
    def multiple(self) -> int:
        return 1 << len(self.generator.downs)

    def phases(self) -> list[Phase]:
        return [
            self.phase("discriminator", self.discriminator_loss, self.discriminator),
            self.phase("generator", self.generator_loss, self.generator),
        ]

    def prepare(self, batch: Batch) -> State:
        return State(batch.source, batch.target, self.generator(batch.source))

    def discriminator_loss(self, state: State) -> Part:
        real, fake = (self.pair(state.source, images) for images in (state.target, state.fake.detach()))
        loss, logged = self.loss.discriminator_logged(*paired(self.discriminator, real, fake))
        return loss / 2, logged  # so that it learns more slowly beside the generator

    def generator_loss(self, state: State) -> Part:
        fooled, logged = self.loss.generator_logged(self.discriminator(self.pair(state.source, state.fake)))
        distance = F.l1_loss(state.fake.float(), state.target)
        return fooled + self.config.l1 * distance, {**logged, "l1": distance.detach()}

    def pair(self, source: Tensor, images: Tensor) -> Tensor:
        """(N, 2 C, H, W): what the discriminator sees, changed alike where it is augmented."""
        return self.augment(torch.cat([source, images], 1))

    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        if self.training or not self.config.noise or backend.traced():
            return self.generator(images)
        with forgetting(self.generator):
            return self.generator(images)


@contextmanager
def forgetting(network: nn.Module) -> Iterator[None]:
    """Dropout at work in a network that is not being trained, by the same random numbers each time."""
    layers = [module for module in network.modules() if isinstance(module, Dropout) and not module.training]
    drawn: dict[torch.device, torch.Generator] = {}

    def generator(device: torch.device) -> torch.Generator:
        return drawn.setdefault(device, torch.Generator(device).manual_seed(0))

    for layer in layers:
        layer.training = True
    try:
        with drawing_from(generator):
            yield
    finally:
        for layer in layers:
            layer.training = False
