"""A convolution and 2x2 average pooling as one module."""

from __future__ import annotations

from torch import Tensor

from fastgan import ops
from fastgan.nn.resize_conv import SameConv2d


class ConvPool2d(SameConv2d):
    """A convolution that keeps the size, then 2x2 average pooling.

    x: (N, in_channels, H, W)   ->   (N, out_channels, H // 2, W // 2)

    The parameters `weight` and `bias` are those of the nn.Conv2d in nn.Sequential(nn.Conv2d(in_channels, out_channels,
    kernel_size, padding="same"), nn.AvgPool2d(2)), and so is the result; the last row or column of an odd size is left
    out of the pooling.

    Args:
        in_channels, out_channels: numbers of channels.
        kernel_size: odd, one number or (height, width).
        bias: have a bias.
        groups: of the channels, as in nn.Conv2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return ops.conv_pool(x, self.weight, self.bias, self.groups)
