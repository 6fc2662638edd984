"""A convolution of the same size, then 2x2 average pooling."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def conv_pool(
    x: Tensor,  # (N, C, H, W), H and W at least 2
    weight: Tensor,  # (O, C / groups, k, l), k and l odd
    bias: Tensor | None = None,  # (O,)
    groups: int = 1,
) -> Tensor:
    """The pair of calls: (N, C, H, W) -> (N, O, H // 2, W // 2); the last row or column of an odd size is left out."""
    padding = weight.shape[2] // 2, weight.shape[3] // 2
    return F.avg_pool2d(F.conv2d(x, weight, bias, 1, padding, 1, groups), 2)
