"""The package's own small network of features, for perceptual losses where no other weights are at hand."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

WIDTHS = (16, 32, 64, 80)


def small_features(widths: tuple[int, ...] = WIDTHS, channels: int = 3, *, norm: bool = False) -> nn.Sequential:
    """A stage a width: (N, channels, H, W) -> (N, widths[-1], H / 8, W / 8) with four of them, rounded up

    The first stage is one 3x3 convolution and ReLU, each further one halves the size: by a strided one,
    and has another.
    norm: batch normalisation after each convolution, as it is trained; folded into the weights afterwards.
    """

    def conv(before: int, after: int, stride: int = 1) -> list[nn.Module]:
        made = nn.Conv2d(before, after, 3, stride, 1)
        return [made, *([nn.BatchNorm2d(after)] if norm else []), nn.ReLU()]

    stages = [nn.Sequential(*conv(channels, widths[0]))]
    stages += [nn.Sequential(*conv(before, after, 2), *conv(after, after)) for before, after in pairwise(widths)]
    return nn.Sequential(*stages)
