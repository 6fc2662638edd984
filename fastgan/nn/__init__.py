"""Modules over the fused ops."""

from fastgan.nn import init
from fastgan.nn.augment import DifferentiableAugment
from fastgan.nn.bias_act import BiasAct
from fastgan.nn.conv_norm_act import ConvNormAct2d, ConvTransposeNormAct2d
from fastgan.nn.conv_pool import ConvPool2d
from fastgan.nn.dropout import Dropout
from fastgan.nn.norm_act import NormAct1d, NormAct2d, NormAct3d
from fastgan.nn.resize_conv import ResizeConv2d

__all__ = [
    "BiasAct",
    "ConvNormAct2d",
    "ConvPool2d",
    "ConvTransposeNormAct2d",
    "DifferentiableAugment",
    "Dropout",
    "NormAct1d",
    "NormAct2d",
    "NormAct3d",
    "ResizeConv2d",
    "init",
]
