"""ConvPool2d: a convolution and 2x2 average pooling."""

from __future__ import annotations

import torch
from torch import nn

import fastgan.nn as fnn
from tests.ops.merged_cases import ModuleCases


class TestConvPool2d(ModuleCases):
    kind = fnn.ConvPool2d

    @staticmethod
    def plain(conv: nn.Module) -> nn.Module:
        return nn.Sequential(conv, nn.AvgPool2d(2))


def test_shape() -> None:
    assert fnn.ConvPool2d(3, 5)(torch.randn(2, 3, 4, 7)).shape == (2, 5, 2, 3)
