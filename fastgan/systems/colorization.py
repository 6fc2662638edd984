"""User-guided colorization: Zhang, Zhu, Isola, Geng, Lin, Yu, Efros, "Real-Time User-Guided Image Colorization with
Learned Deep Priors", 2017."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.color import lab_to_rgb, rgb_to_lab
from fastgan.data.fields import Batch, Field, Images
from fastgan.fusion.paired import paired
from fastgan.losses import NonSaturating
from fastgan.networks.colorizer import Colorizer
from fastgan.networks.patchgan import patchgan
from fastgan.options import Options, option
from fastgan.systems.base import Part, Phase, adam, evaluating
from fastgan.systems.hints import drawn_hints, drawn_places, hints_at
from fastgan.systems.quick import Preset
from fastgan.systems.translator import Example, Translator

RANGE = 110  # the most that a and b are, either way
STEP = 10  # of a and b from bin to bin
BINS = 2 * RANGE // STEP + 1  # a side
COLORFUL = 5  # what the ranges of a and b in a picture add up to, at least, for it to be learned from
SHARPNESS = 0.2  # of the logits: the distribution that is shown is softer than the one that is learned
COUNTS = (0, 1, 5, 10, 50, 100)  # hints, in evaluation
SHOWN = (0, 10)  # of these, in previews and for the best checkpoint
STEPS = 3000  # of the quick preset
WINDOW = 176  # pixels a side of the paper's


@dataclass(frozen=True)
class ColorizationConfig(Options):
    """Defaults of the paper and its code: 15 epochs of ImageNet in batches of 25, then 10 and 5 more."""

    resolution: int = option(WINDOW, "pixels a side of the windows in training; of pictures later: any multiple of 8",
                             multiple=8, least=16)  # fmt: skip
    width: int = option(64, "channels of the largest maps", least=1)
    pretraining: int = option(
        770_000, "steps in which the classes of colors are learned, without hints", least=0, on_resume="differs"
    )
    learning_rate: float = option(1e-4, "of Adam in these steps", above=0, on_resume="differs", flag="--lr")
    hints_learning_rate: float = option(1e-5, "of Adam after them, with hints", above=0, on_resume="differs")
    drop_after: int = option(
        512_000, "steps with hints after which that is a tenth; 0: never", least=0, on_resume="differs"
    )
    betas: tuple[float, float] = option((0.9, 0.999), "of Adam", least=0, below=1, on_resume="differs")
    adversarial: float = option(
        0.0, "weight of a discriminator of patches, which sees lightness and colors, in the steps with hints; 0: there "
        "is none, as in the paper", least=0,
    )  # fmt: skip


class State(NamedTuple):
    """Of N pictures."""

    lightness: Tensor  # (N, 1, H, W) L, from 0 to 100
    ab: Tensor  # (N, 2, H, W)
    counts: Tensor  # (N,) 1 where a picture has colors to learn from, else 0


class Colorization(Translator):
    """Gray pictures in colors that a person gives hints of (Zhang 2017).

    The network learns the class of the color of every fourth pixel by cross-entropy, without hints; then a and b by
    Huber's loss, with hints drawn from the truth, and goes on to learn the classes beside it, from maps that this does
    not change.
    """

    name: ClassVar[str] = "colorization"
    Config: ClassVar[type] = ColorizationConfig
    trains_on: ClassVar[str] = "photos"
    best_by: ClassVar[str] = "psnr"
    directions: ClassVar[Mapping[str, tuple[str, str]]] = {"forward": ("image", "image")}
    takes: ClassVar[Mapping[str, str]] = {"hints": "colors at points, red, green, blue and 1 where one is"}
    loss: ClassVar[NonSaturating] = NonSaturating()

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        options = {
            "resolution": 64, "width": 16, "pretraining": (steps or STEPS) // 3, "learning_rate": 1e-3,
            "hints_learning_rate": 1e-3, "drop_after": (steps or STEPS) // 2,
        }  # fmt: skip
        return Preset(options, {"batch_size": 16, "steps": STEPS})

    @classmethod
    def paper(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        return Preset({}, {"batch_size": 25})

    def __init__(self, config: ColorizationConfig) -> None:
        super().__init__(config)
        self.generator = Colorizer(config.width, BINS * BINS)
        self.discriminator = patchgan(3, config.width, 2, "batch") if config.adversarial else None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 3, self.config.resolution, self.config.resolution

    @property
    def multiple(self) -> int:
        return 8

    @property
    def halo(self) -> int:
        return self.generator.halo

    def inputs(self) -> dict[str, Field]:
        return {"image": Images(*self.image_shape, fit="cut")}

    def phases(self) -> list[Phase]:
        config, generator = self.config, self.generator

        def hinted(step: int) -> bool:
            return step >= config.pretraining

        def rate(step: int) -> float:
            return 0.1 if config.drop_after and step - config.pretraining >= config.drop_after else 1.0

        def optimizer(network: Any) -> torch.optim.Adam:
            return adam(network, config.hints_learning_rate, config.betas)

        result = [
            Phase("pretraining", (generator,), self.class_loss, adam(generator, config.learning_rate, config.betas),
                  when=lambda step: not hinted(step)),
        ]  # fmt: skip
        if self.discriminator is not None:
            networks, loss = (self.discriminator,), self.discriminator_loss
            result.append(Phase("discriminator", networks, loss, optimizer(networks[0]), rate=rate, when=hinted))
        result.append(Phase("generator", (generator,), self.color_loss, optimizer(generator), rate=rate, when=hinted))
        return result

    def prepare(self, batch: Batch) -> State:
        lightness, ab = rgb_to_lab(batch.image).split((1, 2), 1)
        span = (ab.amax((2, 3)) - ab.amin((2, 3))).sum(1)
        return State(lightness, ab, (span >= COLORFUL).to(ab.dtype))

    def class_loss(self, state: State) -> Part:
        return mean(self.surprise(self.generator.logits(given(state.lightness)), state), state.counts), {}

    def color_loss(self, state: State) -> Part:
        shared, made = self.generator.maps(given(state.lightness, drawn_hints(state.ab, self)))
        made = made.to(state.ab.dtype)
        distance = F.smooth_l1_loss(made, state.ab / RANGE, reduction="none", beta=1 / RANGE).sum(1)
        colors = mean(distance.mean((1, 2)), state.counts)
        classes = mean(self.surprise(self.generator.classes(shared.detach()), state), state.counts)
        total, logged = colors + classes, {"colors": colors.detach(), "classes": classes.detach()}
        if self.discriminator is None:
            return total, logged
        fooled, more = self.loss.generator_logged(self.discriminator(torch.cat([scaled(state.lightness), made], 1)))
        return total + self.config.adversarial * fooled, {**more, **logged}

    def discriminator_loss(self, state: State) -> Part:
        assert self.discriminator is not None
        with torch.no_grad():
            made = self.generator(given(state.lightness, drawn_hints(state.ab, self))).to(state.ab.dtype)
        real, fake = (torch.cat([scaled(state.lightness), ab], 1) for ab in (state.ab / RANGE, made))
        return self.loss.discriminator_logged(*paired(self.discriminator, real, fake))

    def surprise(self, logits: Tensor, state: State) -> Tensor:
        """(N,): the cross-entropy of the classes of each picture's colors."""
        bins = (state.ab[..., ::4, ::4] / STEP).round().long().clamp(-(BINS // 2), BINS // 2) + BINS // 2
        values = F.cross_entropy(logits.to(state.ab.dtype), bins[:, 0] * BINS + bins[:, 1], reduction="none")
        return values.mean((1, 2))

    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        """Of colored pictures the lightness alone is looked at, which the result has, too."""
        lightness, hints = told(images, inputs.get("hints"))
        ab = self.generator(given(lightness, hints)).to(lightness.dtype) * RANGE
        return lab_to_rgb(torch.cat([lightness, ab], 1), outside="fade")

    def check(self, images: Tensor, direction: str, inputs: Mapping[str, Tensor]) -> None:
        super().check(images, direction, inputs)
        if images.shape[1] not in (1, 3):
            raise ValueError(f"images must have 1 or 3 channels, not {images.shape[1]}")
        wanted = (len(images), 4, *images.shape[2:])
        if (hints := inputs.get("hints")) is not None and hints.shape != wanted:
            raise ValueError(f"hints must be {wanted}, red, green, blue and 1 where one is, not {tuple(hints.shape)}")

    @torch.no_grad()
    def suggest(
        self, images: Tensor, x: int, y: int, count: int = 9, hints: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What a point may look like, the likeliest color first: (N, count, 3) in [-1, 1], sRGB of the lightness that
        the point has, and the probability of each, (N, count).

        images, hints: as of `translate`.   x, y: column and row.   count: 1 to 16.
        Each color is the mean of the classes around the likeliest one that is left.
        ValueError for a point outside of the pictures and another count, and as of `translate`.
        """
        self.check(images, self.way(None), {} if hints is None else {"hints": hints})
        height, width = images.shape[2:]
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"the point must lie in the picture of {width}x{height} pixels, not at {x}, {y}")
        if not 1 <= count <= 16:
            raise ValueError(f"count must be from 1 to 16, not {count}")
        with evaluating(self):
            lightness, known = told(images.to(self.device), None if hints is None else hints.to(self.device))
            logits = self.generator.logits(given(lightness, known))[:, :, y // 4, x // 4]
        left = (logits.to(lightness.dtype) * SHARPNESS).softmax(1)
        side = torch.arange(-RANGE, RANGE + 1, STEP, device=left.device, dtype=left.dtype)
        centers = torch.cartesian_prod(side, side)  # (classes, 2)
        near = (centers[:, None] - centers).abs().amax(2) <= STEP
        colors, shares = [], []
        for _ in range(count):
            part = left * near[left.argmax(1)]
            share = part.sum(1, keepdim=True)
            colors.append(part @ centers / share.clamp(min=1e-30))
            shares.append(share)
            left = left - part
        share, order = torch.cat(shares, 1).sort(dim=1, descending=True, stable=True)
        ab = torch.stack(colors, 2).gather(2, order.unsqueeze(1).expand(-1, 2, -1)).unsqueeze(3)  # (N, 2, count, 1)
        light = lightness[:, :, y : y + 1, x : x + 1].expand(-1, -1, count, -1)
        return lab_to_rgb(torch.cat([light, ab], 1), outside="fade").squeeze(3).mT, share

    def examples(self, batch: Batch, generator: torch.Generator, paired: bool | None = None) -> Iterator[Example]:
        """Gray pictures, with none and up to 100 hints, of which each has those that the one before it has."""
        images = batch.image
        lab = rgb_to_lab(images)
        gray = lab_to_rgb(F.pad(lab[:, :1], (0, 0, 0, 0, 0, 2)), outside="clip")
        sizes, places = (values.to(lab) for values in drawn_places(len(images), max(COUNTS), self, generator))
        for count in COUNTS:
            all_of = torch.full_like(sizes[:, 0], count)
            inputs = {"hints": visible(hints_at(lab, all_of, sizes[:, :count], places[:, :count]))} if count else {}
            name = f"{count} hint{'s' if count != 1 else ''}"
            yield Example(name, "forward", gray, images, inputs, shown=count in SHOWN)

    def signs(self, batch: Batch, probe: Batch, logged: Mapping[str, float]) -> Mapping[str, Tensor] | None:
        """None that tell something: its results begin gray, as what goes in is, and stay so for many steps."""
        return {}

    def baseline(self, example: Example) -> tuple[str, Tensor]:
        return "gray", example.images


def scaled(lightness: Tensor) -> Tensor:
    """L as networks see it, in [-0.5, 0.5]."""
    return lightness / 100 - 0.5


def given(lightness: Tensor, hints: Tensor | None = None) -> Tensor:
    """(N, 4, H, W), what the generator sees: L, a and b in [-1, 1], and 0.5 where a hint is, else -0.5.

    hints: (N, 3, H, W) as of `drawn_hints`; none: nowhere."""
    if hints is None:
        hints = torch.zeros_like(lightness).expand(-1, 3, -1, -1)
    return torch.cat([scaled(lightness), hints[:, :2] / RANGE, hints[:, 2:] - 0.5], 1)


def told(images: Tensor, hints: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Pictures (N, 1 or 3, H, W) and hints (N, 4, H, W) as of `translate` -> L (N, 1, H, W) and hints as of
    `drawn_hints`"""
    lightness = rgb_to_lab(images.expand(-1, 3, -1, -1))[:, :1]
    if hints is None:
        return lightness, None
    at = hints[:, 3:].to(lightness.dtype)
    return lightness, torch.cat([rgb_to_lab(hints[:, :3])[:, 1:] * at, at], 1)


def visible(hints: Tensor) -> Tensor:
    """(N, 4, H, W) in Lab -> as of `translate`. Points are few: their colors alone are computed."""
    there = hints[:, 3] > 0
    result = hints * 0
    colors = hints[:, :3].movedim(1, 3)[there]  # (points, 3)
    rgb = lab_to_rgb(colors.mT[None, :, :, None], outside="fade")[0, :, :, 0].mT
    result.movedim(1, 3)[there] = F.pad(rgb, (0, 1), value=1.0)
    return result


def mean(values: Tensor, counts: Tensor) -> Tensor:
    """Over the pictures that count; 0 where none does."""
    return (values * counts).sum() / counts.sum().clamp(min=1)
