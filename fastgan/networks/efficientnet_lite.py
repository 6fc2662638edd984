"""EfficientNet-lite0: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019,
without squeeze-and-excitation and with ReLU6, as its authors published it for small devices in 2020."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

STEM, HEAD = 32, 1280
# Of each group of blocks: how many, the kernel, the stride of the first, by how much it widens within, its channels.
GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPSILON = 1e-3  # of batch normalization, as it was trained


def efficientnet_lite0() -> nn.Sequential:
    """(N, 3, H, W) -> (N, 1280, H / 32, W / 32), rounded up; 1280 maps whose means a classifier of ImageNet looked at

    Modules: `stem`, `blocks` (16 of them), `head`.
    """
    blocks: list[nn.Module] = []
    before = STEM
    for count, kernel, stride, widening, after in GROUPS:
        for place in range(count):
            blocks.append(InvertedResidual(before, after, kernel, 1 if place else stride, widening))
            before = after
    return nn.Sequential(
        OrderedDict(stem=_convolution(3, STEM, 3, 2), blocks=nn.Sequential(*blocks), head=_convolution(before, HEAD, 1))
    )


class InvertedResidual(nn.Sequential):
    """Widened, filtered channel by channel, and narrowed without activation; added to its input where both are alike
    (Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2", 2018).

    (N, before, H, W) -> (N, after, H / stride, W / stride), rounded up
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int, widening: int) -> None:
        wide = before * widening
        super().__init__(
            *([_convolution(before, wide, 1)] if widening > 1 else []),
            _convolution(wide, wide, kernel, stride, groups=wide),
            _convolution(wide, after, 1, activation=False),
        )
        self.adds = stride == 1 and before == after

    def forward(self, values: Tensor) -> Tensor:
        made = super().forward(values)
        return values + made if self.adds else made


class SameConv2d(nn.Conv2d):
    """A convolution whose result has ceil(side / stride) pixels; an odd pixel of padding is at the right and below.

    So TensorFlow's SAME pads, with which the published weights were trained.
    """

    def forward(self, values: Tensor) -> Tensor:
        (height, top), (width, left) = (self._around(side) for side in values.shape[2:])
        if height or width:
            values = F.pad(values, (left, width - left, top, height - top))
        return super().forward(values)

    def _around(self, side: int) -> tuple[int, int]:
        """How many pixels are added to a side, and how many of them before it."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        added = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        return added, added // 2


def _convolution(
    before: int, after: int, kernel: int, stride: int = 1, *, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    made = SameConv2d(before, after, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(after, EPSILON), *([nn.ReLU6()] if activation else []))
