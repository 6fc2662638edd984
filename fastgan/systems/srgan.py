"""SRGAN: Ledig, Theis, Huszár, Caballero, Cunningham, Acosta, Aitken, Tejani, Totz, Wang, Shi, "Photo-Realistic Single
Image Super-Resolution Using a Generative Adversarial Network", 2017."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.data.fields import Batch, Field, Images
from fastgan.fusion.paired import paired
from fastgan.losses import NonSaturating, Perceptual
from fastgan.networks.srgan import SRGANGenerator, srgan_discriminator
from fastgan.options import Options, option
from fastgan.pretrained import features
from fastgan.systems.base import Part, Phase, adam
from fastgan.systems.quick import Preset
from fastgan.systems.translator import Example, Translator

SCALE = 4
STEPS = 3000  # of the quick preset
CROP = 96  # pixels a side of the paper's windows


@dataclass(frozen=True)
class SRGANConfig(Options):
    """Defaults of the paper."""

    resolution: int = option(CROP, "pixels a side of the large pictures in training; of the small ones a quarter",
                             multiple=SCALE, least=16)  # fmt: skip
    channels: int = option(3, "of an image", least=1)
    width: int = option(64, "of the generator's maps", least=1)
    blocks: int = option(16, "residual ones of the generator", least=1)
    discriminator_width: int | None = option(None, "of its largest maps; none: width", least=1)
    pretrain: int = option(
        1_000_000, "steps in which the generator learns alone, by the squared error: then it is the paper's SRResNet",
        least=0, on_resume="differs",
    )  # fmt: skip
    pixel: float = option(1.0, "weight of the squared error after these steps", least=0, on_resume="differs")
    perceptual: str = option(
        "small", "features whose squared distance counts after these steps: small, which come with the package, or "
        "another name that `fastgan weights` lists, the paper's is vgg19; none", on_resume="differs",
    )  # fmt: skip
    perceptual_layers: str = option(
        "", "of these features, with commas between: those whose maps are compared, the paper's is relu5_4; none: all",
        on_resume="differs",
    )  # fmt: skip
    content: float = option(1.0, "weight of that distance", least=0, on_resume="differs")
    adversarial: float = option(1e-3, "weight of the discriminator in the generator's loss", least=0,
                                on_resume="differs")  # fmt: skip
    learning_rate: float = option(1e-4, "of Adam, both networks", above=0, on_resume="differs", flag="--lr")
    adversarial_learning_rate: float | None = option(
        None, "of both networks after the pretraining; none: the same", above=0, on_resume="differs"
    )
    betas: tuple[float, float] = option((0.9, 0.999), "of Adam, both networks", least=0, below=1, on_resume="differs")
    drop_after: int = option(
        100_000, "adversarial steps after which the learning rates are a tenth; 0: never", least=0, on_resume="differs"
    )


class State(NamedTuple):
    """Of N windows of pictures, (N, C, H, W) each."""

    high: Tensor
    made: Tensor  # of the window at a quarter of the resolution, with the generator's graph


class SRGAN(Translator):
    """Four times the resolution: SRResNet by the squared error, then against a discriminator (Ledig 2017).

    The paper compares maps of VGG-19 instead of pixels in the second stage. By default both are compared here, and maps
    of the small features that come with the package.
    """

    name: ClassVar[str] = "srgan"
    Config: ClassVar[type] = SRGANConfig
    trains_on: ClassVar[str] = "photos"
    best_by: ClassVar[str] = "psnr_y"
    directions: ClassVar[Mapping[str, tuple[str, str]]] = {"forward": ("image", "image")}
    scale: ClassVar[int] = SCALE
    loss: ClassVar[NonSaturating] = NonSaturating()

    @classmethod
    def options_for(cls, fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
        found = super().options_for(fields, given)
        return {name: min(value, CROP) if name == "resolution" else value for name, value in found.items()}

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        stage = (steps or STEPS) * 3 // 4
        options = {
            "resolution": 64, "width": 32, "blocks": 4, "learning_rate": 1e-3, "adversarial_learning_rate": 1e-4,
            "pretrain": stage,
        }  # fmt: skip
        return Preset(options, {"batch_size": 8, "steps": STEPS})

    @classmethod
    def paper(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        return Preset({}, {"batch_size": 16})

    def __init__(self, config: SRGANConfig) -> None:
        super().__init__(config)
        self.generator = SRGANGenerator(config.width, config.blocks, config.channels)
        self.discriminator = srgan_discriminator(
            config.discriminator_width or config.width, config.resolution, config.channels
        )
        self.perceptual: Perceptual | None = None  # what was trained needs no features
        if config.perceptual != "none" and config.content and config.channels not in (1, 3):
            raise ValueError(
                f"features are of pictures of 1 or 3 channels, not {config.channels}: give perceptual=none"
            )

    @property
    def halo(self) -> int:
        # Half of each kernel: 9x9, two 3x3 a block and one behind them, and of the last three what is left of their
        # half where a pixel is a half and a quarter as large.
        return 4 + 2 * self.config.blocks + 1 + 3

    def phases(self) -> list[Phase]:
        config = self.config
        if config.perceptual != "none" and config.content:
            layers = (
                [layer.strip() for layer in config.perceptual_layers.split(",")] if config.perceptual_layers else None
            )
            self.perceptual = Perceptual(features(config.perceptual), layers)

        def optimized(network: Any) -> torch.optim.Adam:
            return adam(network, config.adversarial_learning_rate or config.learning_rate, config.betas)

        generator, discriminator = (self.generator,), (self.discriminator,)
        return [
            Phase("pretraining", generator, self.pixel_loss, adam(self.generator, config.learning_rate, config.betas),
                  when=self.alone),
            Phase("discriminator", discriminator, self.discriminator_loss, optimized(self.discriminator),
                  rate=self.rate, when=self.adversarial),
            Phase("generator", generator, self.generator_loss, optimized(self.generator), rate=self.rate,
                  when=self.adversarial),
        ]  # fmt: skip

    def alone(self, step: int) -> bool:
        """Whether the generator learns alone in step number `step`, counted from 0."""
        return step < self.config.pretrain

    def adversarial(self, step: int) -> bool:
        return not self.alone(step)

    def rate(self, step: int) -> float:
        """The share of their learning rate that both networks have in that step."""
        dropped = self.config.drop_after and step - self.config.pretrain >= self.config.drop_after
        return 0.1 if dropped else 1.0

    def inputs(self) -> dict[str, Field]:
        return {"image": Images(*self.image_shape, fit="cut")}

    def prepare(self, batch: Batch) -> State:
        return State(batch.image, self.generator(shrunk(batch.image)))

    def pixel_loss(self, state: State) -> Part:
        """The mean squared error."""
        return F.mse_loss(state.made.to(state.high.dtype), state.high), {}

    def discriminator_loss(self, state: State) -> Part:
        return self.loss.discriminator_logged(*paired(self.discriminator, state.high, state.made.detach()))

    def generator_loss(self, state: State) -> Part:
        fooled, logged = self.loss.generator_logged(self.discriminator(state.made))
        error = self.pixel_loss(state)[0]
        loss = self.config.pixel * error + self.config.adversarial * fooled
        logged = {**logged, "pixel": error.detach()}
        if self.perceptual is not None:
            distance = self.perceptual(state.made.to(state.high.dtype), state.high)
            loss, logged = loss + self.config.content * distance, {**logged, "content": distance.detach()}
        return loss, logged

    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        return self.generator(images).clamp(-1, 1)

    def examples(self, batch: Batch, generator: torch.Generator, paired: bool | None = None) -> Iterator[Example]:
        """Of each picture, at a quarter of its resolution."""
        yield Example("forward", "forward", shrunk(batch.image), batch.image)

    def baseline(self, example: Example) -> tuple[str, Tensor]:
        larger = F.interpolate(example.images, scale_factor=SCALE, mode="bicubic", align_corners=False)
        return "bicubic", larger.clamp(-1, 1)


def shrunk(images: Tensor) -> Tensor:
    """Pictures (N, C, H, W) in [-1, 1] at a quarter of their resolution, as files of 8 bits would have them."""
    size = [side // SCALE for side in images.shape[2:]]
    small = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(-1, 1)
    return ((small + 1) * 127.5).round() / 127.5 - 1
