"""Context encoder: Pathak, Krähenbühl, Donahue, Darrell, Efros, "Context Encoders: Feature Learning by Inpainting",
2016."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.data.fields import Batch, Field, Images
from fastgan.fusion.paired import paired
from fastgan.losses import NonSaturating
from fastgan.networks import dcgan
from fastgan.networks.context_encoder import context_encoder
from fastgan.nn import init
from fastgan.options import Options, option
from fastgan.systems.base import Part, Phase, adam, uniform
from fastgan.systems.quick import Preset
from fastgan.systems.translator import Example, Translator

COLOR = (117 / 127.5 - 1, 104 / 127.5 - 1, 123 / 127.5 - 1)  # the mean of photographs: what a hole is filled with
NEAR = 10.0  # weight of a known pixel near the hole
HOLES = ("center", "random")


@dataclass(frozen=True)
class ContextEncoderConfig(Options):
    """Defaults of the authors' code."""

    resolution: int = option(128, "pixels a side", choices=(32, 64, 128, 256))
    channels: int = option(3, "of an image", least=1)
    holes: str = option(
        "center",
        "center: the middle half of each side is made, and missing but for its overlap; random: squares anywhere, and "
        "the whole picture is made",
        choices=HOLES,
    )
    blocks: int = option(4, "squares of a picture's random holes, which cover up to a quarter", least=1,
                         on_resume="differs")  # fmt: skip
    overlap: int = option(4, "known pixels around a hole that are made, too, and weighted ten times", least=0,
                          on_resume="differs")  # fmt: skip
    width: int = option(64, "channels of the largest maps", least=1)
    bottleneck: int = option(4000, "numbers of the code between encoder and decoder", least=1)
    discriminator_width: int | None = option(None, "of its largest maps; none: width", least=1)
    adversarial: float = option(
        1e-3, "weight of the discriminator in the generator's loss; the squared error has the rest", least=0, most=1,
        on_resume="differs",
    )  # fmt: skip
    learning_rate: float = option(2e-3, "of Adam, the generator", above=0, on_resume="differs", flag="--lr")
    discriminator_learning_rate: float = option(2e-4, "of Adam, the discriminator", above=0, on_resume="differs")
    betas: tuple[float, float] = option((0.5, 0.999), "of Adam, both networks", least=0, below=1, on_resume="differs")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap >= self.resolution // 4:
            raise ValueError(
                f"overlap must leave a hole: below {self.resolution // 4} at resolution {self.resolution}, not "
                f"{self.overlap}"
            )


class State(NamedTuple):
    """Of N pictures, or of the middle of each: (N, C, H, W) each."""

    real: Tensor
    made: Tensor  # with the generator's graph
    shown: Tensor  # to the discriminator: what was made, with random holes between the known pixels
    weights: Tensor  # (1 or N, 1, H, W): of the squared error of a pixel


class ContextEncoder(Translator):
    """A missing part filled in: squared error, more near the known pixels, and a discriminator of it (Pathak 2016)."""

    name: ClassVar[str] = "context-encoder"
    Config: ClassVar[type] = ContextEncoderConfig
    trains_on: ClassVar[str] = "photos"
    best_by: ClassVar[str] = "psnr"
    directions: ClassVar[Mapping[str, tuple[str, str]]] = {"forward": ("image", "image")}
    takes: ClassVar[Mapping[str, str]] = {"mask": "(N, 1, H, W), 1 where the picture is missing, 0 elsewhere"}
    loss: ClassVar[NonSaturating] = NonSaturating()
    color: Tensor  # (C, 1, 1)

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        options = {"resolution": 64, "width": 32, "bottleneck": 512, "overlap": 2}
        return Preset(options, {"batch_size": 16})

    @classmethod
    def paper(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        return Preset({}, {"batch_size": 64})

    def __init__(self, config: ContextEncoderConfig) -> None:
        super().__init__(config)
        self.centered = config.holes == "center"
        side, margin = config.resolution, config.resolution // 4
        made = side // 2 if self.centered else side
        self.window = slice(margin, side - margin) if self.centered else slice(None)  # that is made, of each axis
        sizes = config.resolution, made, config.bottleneck, config.channels
        self.generator = context_encoder(config.width, *sizes)
        self.discriminator = dcgan.discriminator(config.discriminator_width or config.width, made, config.channels)
        init.dcgan(self)
        color = COLOR if config.channels == 3 else (sum(COLOR) / 3,) * config.channels
        self.register_buffer("color", torch.tensor(color).view(-1, 1, 1), persistent=False)

    @property
    def multiple(self) -> int:
        return self.config.resolution // 4  # of which 4x4 values are left before the bottleneck

    @property
    def least(self) -> int:
        return self.config.resolution

    @property
    def fixed(self) -> tuple[int, int] | None:
        return (self.config.resolution, self.config.resolution) if self.centered else None

    def phases(self) -> list[Phase]:
        config, discriminator, generator = self.config, self.discriminator, self.generator
        return [
            Phase("discriminator", (discriminator,), self.discriminator_loss,
                  adam(discriminator, config.discriminator_learning_rate, config.betas)),
            Phase("generator", (generator,), self.generator_loss, adam(generator, config.learning_rate, config.betas)),
        ]  # fmt: skip

    def inputs(self) -> dict[str, Field]:
        return {"image": Images(*self.image_shape, fit="cut")}

    def holes(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(N, 1, H, W) bool, where pictures (N, C, H, W) are missing: in the middle; or, drawn from the generator, in
        `blocks` squares, which together cover at most a quarter."""
        if self.centered:
            margin = self.config.resolution // 4 + self.config.overlap
            missing = images[:, :1, margin:-margin, margin:-margin]
            return F.pad(torch.ones_like(missing), [margin] * 4) > 0
        height, width = images.shape[2:]
        drawn = uniform((len(images), 3 * self.config.blocks), self, generator, 0.0).to(images.device)
        size, top, left = drawn.view(-1, 3, self.config.blocks, 1, 1).unbind(1)  # (N, blocks, 1, 1)
        most = min(height, width) / (2 * self.config.blocks**0.5)
        size = (most * (1 + size) / 2).floor().clamp(min=1)
        rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
        first, left = (top * (height - size + 1)).floor(), (left * (width - size + 1)).floor()
        inside = (rows[:, None] >= first) & (rows[:, None] < first + size)
        return (inside & (columns >= left) & (columns < left + size)).any(1, keepdim=True)

    def prepare(self, batch: Batch) -> State:
        images = batch.image
        holes = self.holes(images)
        made = self.generator(torch.where(holes, self.color, images)).to(images.dtype)
        real, holes = images[..., self.window, self.window], holes[..., self.window, self.window]
        weights = holes + NEAR * (around(holes, self.config.overlap) & ~holes)
        return State(real, made, made if self.centered else torch.where(holes, made, real), weights.to(images.dtype))

    def discriminator_loss(self, state: State) -> Part:
        return self.loss.discriminator_logged(*paired(self.discriminator, state.real, state.shown.detach()))

    def generator_loss(self, state: State) -> Part:
        fooled, logged = self.loss.generator_logged(self.discriminator(state.shown))
        errors = state.weights * (state.made - state.real).square()
        error = errors.sum() / ((state.weights > 0).sum() * state.real.shape[1])
        share = self.config.adversarial
        return share * fooled + (1 - share) * error, {**logged, "error": error.detach()}

    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        """The known pixels stay as they are."""
        holes = inputs["mask"] > 0.5 if "mask" in inputs else self.holes(images)
        made = self.generator(torch.where(holes, self.color, images))
        if self.centered:
            made = F.pad(made, [self.config.resolution // 4] * 4)
        return torch.where(holes, made.to(images.dtype), images)

    def check(self, images: Tensor, direction: str, inputs: Mapping[str, Tensor]) -> None:
        super().check(images, direction, inputs)
        mask = inputs.get("mask")
        if mask is None:
            return
        height, width = images.shape[2:]
        if mask.shape[1:] != (1, height, width):
            raise ValueError(f"mask must be (N, 1, {height}, {width}), as the images are, not {tuple(mask.shape)}")
        if self.centered and not torch.equal(mask.to(images.device) > 0.5, self.holes(images)):
            side = self.config.resolution // 2 - 2 * self.config.overlap
            raise ValueError(
                f"{self.name} was trained with a hole of {side}x{side} pixels in the middle: leave the mask out, or "
                "train with holes=random for other places"
            )

    def check_given(self, direction: str, names: Collection[str]) -> None:
        super().check_given(direction, names)
        if not self.centered and "mask" not in names:
            raise ValueError(f"{self.name} was trained with holes anywhere: it needs a mask, 1 where they are")

    def restored(self, image: Tensor, made: Tensor) -> Tensor:
        """The known pixels stay as they are."""
        side = self.config.resolution
        holes = self.holes(made.new_zeros(1, 1, side, side)).to(made.dtype)
        return torch.where(F.interpolate(holes, made.shape[2:], mode="nearest") > 0, made, image)

    def recording(self) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
        function, inputs = super().recording()
        if self.centered:
            return function, inputs
        mask = torch.zeros_like(inputs["images"][:, :1])
        return self.filled, {**inputs, "mask": mask}

    def filled(self, images: Tensor, mask: Tensor) -> Tensor:
        return self(images, mask=mask)

    def examples(self, batch: Batch, generator: torch.Generator, paired: bool | None = None) -> Iterator[Example]:
        """Of each picture, with its hole."""
        images = batch.image
        holes = self.holes(images, generator)
        inputs = {} if self.centered else {"mask": holes.to(images.dtype)}
        seen = torch.where(holes, self.color.to(images.device), images)
        yield Example("forward", "forward", seen, images, inputs, holes)

    def baseline(self, example: Example) -> tuple[str, Tensor]:
        """Each picture's hole in the mean color of the known pixels next to it."""
        assert example.region is not None
        holes = example.region
        border = (around(holes, 1) & ~holes).to(example.images.dtype)
        mean = (border * example.images).sum((2, 3), keepdim=True) / border.sum((2, 3), keepdim=True).clamp(min=1)
        return "border mean", torch.where(holes, mean, example.images)


def around(holes: Tensor, pixels: int) -> Tensor:
    """(N, 1, H, W) bool: the holes, so many pixels larger in each direction."""
    return F.max_pool2d(holes.float(), 2 * pixels + 1, 1, pixels) > 0
