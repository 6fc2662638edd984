"""pix2pix's generator: Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
2017, after Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fastgan.networks.upsampling import doubled
from fastgan.nn import Dropout

NORMS: dict[str, Any] = {"batch": nn.BatchNorm2d, "instance": partial(nn.InstanceNorm2d, affine=True)}
FORGETFUL = 3  # layers of the decoder with dropout, after the innermost


class UNet(nn.Module):
    """(N, channels, H, W) -> (N, out_channels, H, W) in [-1, 1], H and W multiples of 2^levels

    width: channels of the largest maps; they double at each halving, up to 8 times as many.
    levels: halvings, at least 2; 8 take 256x256 pixels to one.
    norm: batch, or instance: what batch normalization is for a batch of one, with its weights.
    dropout: the share of its features that each of the decoder's first layers forgets.
    upsampling: of the decoder's maps, see `fastgan.networks.upsampling.doubled`.

    Each map of the encoder goes to the decoder's layer of the same size as well. The activation comes before the
    convolution and, in the encoder, in place: a skip carries the activated tensor.
    """

    def __init__(
        self,
        width: int = 64,
        levels: int = 8,
        channels: int = 3,
        out_channels: int = 3,
        norm: str = "batch",
        dropout: float = 0.5,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {norm!r}")
        if levels < 2:
            raise ValueError(f"levels must be at least 2, not {levels}")
        widths = [width * min(2**level, 8) for level in range(levels)]
        downs: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False)]
        for level, (before, after) in enumerate(pairwise(widths), start=1):
            innermost = level == levels - 1
            layers = [nn.LeakyReLU(0.2, True), nn.Conv2d(before, after, 4, 2, 1, bias=False)]
            downs.append(nn.Sequential(*layers, *([] if innermost else [NORMS[norm](after)])))
        ups: list[nn.Module] = []
        for level in range(levels - 1, 0, -1):
            innermost = level == levels - 1
            before, after = widths[level] * (1 if innermost else 2), widths[level - 1]  # a skip beside it
            forgets = dropout and not innermost and level >= levels - 1 - FORGETFUL
            layers = [nn.ReLU(True), *doubled(before, after, upsampling, bias=False), NORMS[norm](after)]
            ups.append(nn.Sequential(*layers, *([Dropout(dropout)] if forgets else [])))
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)
        self.last = nn.Sequential(nn.ReLU(True), *doubled(width * 2, out_channels, upsampling), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = torch.cat([skips.pop(), up(x)], 1)
        return self.last(x)
