"""The layers of VGG that perceptual losses compare: Simonyan, Zisserman, "Very Deep Convolutional Networks for
Large-Scale Image Recognition", 2015."""

from __future__ import annotations

from torch import nn


def vgg19(width: int = 64) -> nn.Sequential:
    """VGG-19 up to its last ReLU: (N, 3, H, W) -> (N, 8 width, H / 16, W / 16)

    Modules are numbered as in torchvision's vgg19().features, whose weights can be loaded.
    """
    layers: list[nn.Module] = []
    before = 3
    for level, count in enumerate((2, 2, 4, 4, 4)):
        layers += [nn.MaxPool2d(2)] if level else []
        after = width * min(2**level, 8)
        for _ in range(count):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(True)]
            before = after
    return nn.Sequential(*layers)
