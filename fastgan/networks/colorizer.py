"""The network of Zhang, Zhu, Isola, Geng, Lin, Yu, Efros, "Real-Time User-Guided Image Colorization with Learned Deep
Priors", 2017, section 3.3."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Colorizer(nn.Module):
    """Colors of a gray picture with hints: (N, 4, H, W) -> (N, 2, H, W) in [-1, 1], H and W multiples of 8.

    width: channels of the largest maps; they double three times. The paper's is 64.
    bins: classes of colors, each with a logit at every fourth pixel.

    Each group of convolutions, with a ReLU behind each, ends in a norm; every second pixel goes on to the next one. The
    groups five and six are dilated instead of smaller. Each later map is added to that of its size before it.
    """

    def __init__(self, width: int = 64, bins: int = 529) -> None:
        super().__init__()
        one, two, four, eight = (width * times for times in (1, 2, 4, 8))
        self.conv1 = group(4, one, 2)
        self.conv2 = group(one, two, 2)
        self.conv3 = group(two, four, 3)
        self.middle = nn.Sequential(
            *group(four, eight, 3),
            *group(eight, eight, 3, dilation=2),
            *group(eight, eight, 3, dilation=2),
            *group(eight, eight, 3),
        )
        self.up8, self.skip8 = larger(eight, four), nn.Conv2d(four, four, 3, padding=1)
        self.up9, self.skip9 = larger(four, two), nn.Conv2d(two, two, 3, padding=1)
        self.up10, self.skip10 = larger(two, two), nn.Conv2d(one, two, 3, padding=1)
        self.conv8, self.conv9 = group(four, four, 2), group(two, two, 1)
        self.conv10 = nn.Sequential(nn.Conv2d(two, two, 3, padding=1), nn.LeakyReLU(0.2, True))
        self.colors = nn.Sequential(nn.Conv2d(two, 2, 1), nn.Tanh())
        self.classes = nn.Conv2d(four, bins, 1)

    @property
    def halo(self) -> int:
        """How far a pixel of the result looks."""
        down = 2 + 2 * 2 + 3 * 4
        middle = (3 + 2 * 3 + 2 * 3 + 3) * 8
        up = 2 * 4 + 2 * 4 + 2 * 2 + 2 + 2 + 1  # of a strided 4x4 kernel two of its own pixels
        return down + middle + up

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)[1]

    def logits(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) -> (N, bins, H / 4, W / 4) of the classes, by what they need alone"""
        return self.classes(self.shared(x)[0])

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map that the classes come from, (N, 4 width, H / 4, W / 4), and the colors, (N, 2, H, W)."""
        shared, conv2, conv1 = self.shared(x)
        y = self.conv9(F.relu(self.up9(shared) + self.skip9(conv2)))
        y = self.conv10(F.relu(self.up10(y) + self.skip10(conv1)))
        return shared, self.colors(y)

    def shared(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        conv1 = self.conv1(x)
        conv2 = self.conv2(half(conv1))
        conv3 = self.conv3(half(conv2))
        y = self.up8(self.middle(half(conv3)))
        return self.conv8(F.relu(y + self.skip8(conv3))), conv2, conv1


def group(before: int, after: int, count: int, dilation: int = 1) -> nn.Sequential:
    """`count` convolutions with a ReLU each, then a norm: (N, before, H, W) -> (N, after, H, W)"""
    layers: list[nn.Module] = []
    for channels in (before, *[after] * (count - 1)):
        layers += [nn.Conv2d(channels, after, 3, padding=dilation, dilation=dilation), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.BatchNorm2d(after))


def larger(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, 4, 2, 1)


def half(x: Tensor) -> Tensor:
    """Every second pixel of every second row."""
    return x[..., ::2, ::2]
