"""ResizeConv2d: nearest x2 upsampling and a convolution."""

from __future__ import annotations

import torch
from torch import nn

import fastgan.nn as fnn
from tests.ops.merged_cases import ModuleCases


class TestResizeConv2d(ModuleCases):
    kind = fnn.ResizeConv2d

    @staticmethod
    def plain(conv: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Upsample(scale_factor=2), conv)


def test_shape() -> None:
    assert fnn.ResizeConv2d(3, 5)(torch.randn(2, 3, 4, 6)).shape == (2, 5, 8, 12)
