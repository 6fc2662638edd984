"""pix2pix's generator: Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks",
2017, after Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """(N, channels, H, W) -> (N, out_channels, H, W) in [-1, 1], H and W multiples of 2^levels

    width: channels of the largest maps; they double at each halving, up to 8 times as many.
    levels: halvings; 8 take 256x256 pixels to one.

    Each map of the encoder goes to the decoder's layer of the same size as well. The activation comes before the
    convolution and, in the encoder, in place: a skip carries the activated tensor.
    """

    def __init__(self, width: int = 64, levels: int = 8, channels: int = 3, out_channels: int = 3) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(levels)]
        downs: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False)]
        for level, (before, after) in enumerate(pairwise(widths), start=1):
            norm = [nn.BatchNorm2d(after)] if level < levels - 1 else []
            downs.append(nn.Sequential(nn.LeakyReLU(0.2, True), nn.Conv2d(before, after, 4, 2, 1, bias=False), *norm))
        ups: list[nn.Module] = []
        for level in range(levels - 1, 0, -1):
            before = widths[level] * (1 if level == levels - 1 else 2)  # a skip beside it, but for the innermost
            dropout = [nn.Dropout(0.5)] if levels - 4 <= level < levels - 1 else []
            after = widths[level - 1]
            deconvolution = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            ups.append(nn.Sequential(nn.ReLU(True), deconvolution, nn.BatchNorm2d(after), *dropout))
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)
        self.last = nn.Sequential(nn.ReLU(True), nn.ConvTranspose2d(width * 2, out_channels, 4, 2, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = torch.cat([skips.pop(), up(x)], 1)
        return self.last(x)
