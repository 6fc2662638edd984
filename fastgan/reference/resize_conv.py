"""Nearest x2 upsampling, then a convolution of the same size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resize_conv(
    x: Tensor,  # (N, C, H, W)
    weight: Tensor,  # (O, C / groups, k, l), k and l odd
    bias: Tensor | None = None,  # (O,)
    groups: int = 1,
) -> Tensor:
    """The pair of calls: (N, C, H, W) -> (N, O, 2H, 2W). Odena et al. 2016, doi:10.23915/distill.00003."""
    padding = weight.shape[2] // 2, weight.shape[3] // 2
    return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, 1, padding, 1, groups)
