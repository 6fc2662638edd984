"""Nearest x2 upsampling and a convolution as one module."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fastgan import backend, ops


class SameConv2d(nn.Module):
    """What ResizeConv2d and ConvPool2d share: the parameters of an nn.Conv2d of odd kernel, and their start values."""

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        bias: bool = True,
        groups: int = 1,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(kernel) != 2 or not all(isinstance(size, int) and size > 0 and size % 2 for size in kernel):
            raise ValueError(f"{name}: kernel_size must be one or two odd numbers >= 1, not {kernel_size!r}")
        if groups < 1 or in_channels < 1 or out_channels < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: {in_channels} and {out_channels} channels must be positive multiples of groups={groups}"
            )
        self.in_channels, self.out_channels, self.kernel_size, self.groups = in_channels, out_channels, kernel, groups
        shape = (out_channels, in_channels // groups, *kernel)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As nn.Conv2d does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            limit = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -limit, limit)

    def check(self, x: Tensor) -> None:
        if not backend.traced() and (x.dim() != 4 or x.shape[1] != self.in_channels):
            raise ValueError(
                f"{type(self).__name__} takes input (N, {self.in_channels}, H, W), not shape {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        parts = [str(self.in_channels), str(self.out_channels), f"kernel_size={self.kernel_size}"]
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class ResizeConv2d(SameConv2d):
    """Nearest x2 upsampling, then a convolution that keeps the size.

    x: (N, in_channels, H, W)   ->   (N, out_channels, 2H, 2W)

    The parameters `weight` and `bias` are those of the nn.Conv2d in nn.Sequential(nn.Upsample(scale_factor=2),
    nn.Conv2d(in_channels, out_channels, kernel_size, padding="same")), and so is the result.

    Args:
        in_channels, out_channels: numbers of channels.
        kernel_size: odd, one number or (height, width).
        bias: have a bias.
        groups: of the channels, as in nn.Conv2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return ops.resize_conv(x, self.weight, self.bias, self.groups)
