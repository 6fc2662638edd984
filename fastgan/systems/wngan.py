"""GAN with weight normalisation: Xiang and Li, "On the Effects of Batch and Weight Normalization in Generative
Adversarial Networks", 2017."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fastgan import ops
from fastgan.data.fields import Field
from fastgan.losses import Adversarial, LeastSquares, NonSaturating
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
)  # fmt: skip
from fastgan.systems.adversarial import AdversarialSystem, with_dropout
from fastgan.systems.base import evaluating
from fastgan.systems.quick import Preset

LOSSES: dict[str, Any] = {"non_saturating": NonSaturating, "least_squares": LeastSquares}


@dataclass(frozen=True)
class WNGANConfig(Decay, R1, Augmentation, LabelNoise, Forgetting, Players, Networks):
    """Defaults of the paper. (Its batches are of 32 images.)"""

    resolution: int = option(64, "pixels a side", choices=POWERS_OF_TWO)
    latent: int = 128
    learning_rate: float = option(2e-5, "of RMSprop, both networks")
    loss: str = option("non_saturating", "of both players", choices=tuple(LOSSES))
    without: ClassVar[Mapping[type, str]] = {Adam: "RMSprop, with which both networks are trained, has none"}


class Reconstruction(NamedTuple):
    images: Tensor  # (N, C, H, W), the nearest that the generator could be brought to
    latent: Tensor  # (N, latent) that they are made from
    error: Tensor  # (N,), the mean squared difference from the given images, in units of [-1, 1]


class WNGAN(AdversarialSystem):
    """DCGAN's shape, normalised weights instead of batches; measured by reconstruction (Xiang and Li 2017)."""

    name: ClassVar[str] = "wngan"
    Config: ClassVar[type] = WNGANConfig

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        networks = {"resolution": 16, "width": 16, "latent": 32}
        return Preset({**networks, "learning_rate": 2e-4, "r1": 1.0}, {"batch_size": 32, "steps": 4000})

    def __init__(self, config: WNGANConfig) -> None:
        super().__init__(config)
        self.generator = generator(config)
        self.discriminator = discriminator(config)
        init.dcgan(self)

    def objective(self) -> Adversarial:
        return LOSSES[self.config.loss](**self.label_noise())

    def optimizer(self, network: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(network.parameters(), lr=learning_rate, alpha=0.9, eps=1e-6)

    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        return 2 * super().generate(latent, labels) - 1

    def reconstruct(self, images: Tensor, steps: int = 50, learning_rate: float = 0.01) -> Reconstruction:
        """The latents that give the images nearest to those given, by RMSprop from 0 (section 4.1 of the paper).

        images: (N, C, H, W) in [-1, 1]. The mean error over images that were not trained on chooses among models, and
        tells of modes that are missing. The networks, in eval mode, do not change. ValueError for another shape or
        for less than one step.
        """
        if images.dim() != 4 or images.shape[1:] != self.image_shape:
            shape = ", ".join(map(str, self.image_shape))
            raise ValueError(f"images must have shape (N, {shape}), not {tuple(images.shape)}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        images = images.to(self.device, self.dtype)
        latent = torch.zeros(len(images), self.config.latent, device=self.device, dtype=self.dtype, requires_grad=True)
        optimizer = torch.optim.RMSprop([latent], lr=learning_rate, alpha=0.9, eps=1e-6)
        with evaluating(self), torch.enable_grad():
            for _ in range(steps):
                # The sum over images: each goes its own way, whatever the others are.
                loss = (self.generate(latent) - images).square().flatten(1).mean(1).sum()
                (latent.grad,) = torch.autograd.grad(loss, latent)
                optimizer.step()
        latent = latent.detach()
        with evaluating(self), torch.no_grad():
            nearest = self.generate(latent)
        return Reconstruction(nearest, latent, (nearest - images).square().flatten(1).mean(1))


class UnitLength(nn.Module):
    """w / ||w||, the length that of the weights of one output (equation 3): a strict normalisation, without a scale.

    strides: of a transposed convolution, whose outputs each see 1 / (strides[0] strides[1]) of the kernel.
    """

    def __init__(self, output: int, strides: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.output = output  # dimension of w
        self.share = 1 / math.prod(strides)

    def forward(self, weight: Tensor) -> Tensor:
        over = [dimension for dimension in range(weight.dim()) if dimension != self.output]
        return weight * (self.share * weight.square().sum(over, keepdim=True) + 1e-6).rsqrt()


def normalised(layer: nn.Module) -> nn.Module:
    """The layer with weights of unit length."""
    transposed = isinstance(layer, nn.ConvTranspose2d)
    unit = UnitLength(1, layer.stride) if transposed else UnitLength(0)  # type: ignore[arg-type]
    return parametrize.register_parametrization(layer, "weight", unit)


class TPReLU(nn.Module):
    """PReLU(x - b) + b with slope min(max(a, 0), 1); a and b (C,) are learned, from 0.25 and 0 (section 3.3).

    x: (N, C, *) -> like x
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.threshold = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        slope, threshold = self.slope.clamp(0, 1), self.threshold
        return ops.bias_act(x, -threshold, act="prelu", slope=slope) + threshold.view(-1, *[1] * (x.dim() - 2))


def generator(config: WNGANConfig) -> nn.Sequential:
    """(N, latent) -> (N, channels, resolution, resolution) in [0, 1]"""
    width = config.width << int(math.log2(config.resolution)) - 3
    layers: list[nn.Module] = [
        normalised(nn.Linear(config.latent, 16 * width, bias=False)),
        nn.Unflatten(1, (width, 4, 4)),
        TPReLU(width),
    ]
    while width > config.width:
        layers += [normalised(nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False)), TPReLU(width // 2)]
        width //= 2
    # The last layer has a scale and a bias of its own: an ordinary one.
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, config.channels, 4, 2, 1), nn.Sigmoid())


class ToUnit(nn.Module):
    """Images in [-1, 1] -> in [0, 1]"""

    def forward(self, images: Tensor) -> Tensor:
        return (images + 1) / 2


def discriminator(config: WNGANConfig) -> nn.Sequential:
    """(N, channels, resolution, resolution) in [-1, 1] -> (N, 1, 1, 1) logits"""
    width, before = config.discriminator_width or config.width, config.channels
    blocks: list[nn.Module] = []
    for level in range(int(math.log2(config.resolution)) - 2):
        after = width << level
        conv = normalised(nn.Conv2d(before, after, 4, 2, 1, bias=False))
        blocks.append(nn.Sequential(*([] if level else [ToUnit()]), conv, TPReLU(after)))
        before = after
    return with_dropout(nn.Sequential(*blocks, nn.Conv2d(before, 1, 4)), config.dropout)
