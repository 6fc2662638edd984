"""The layers of VGG that perceptual losses compare: Simonyan, Zisserman, "Very Deep Convolutional Networks for
Large-Scale Image Recognition", 2015."""

from __future__ import annotations

from torch import nn

CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # of each level, between halvings


def vgg16(width: int = 64) -> nn.Sequential:
    """VGG-16 up to its last ReLU: (N, 3, H, W) -> (N, 8 width, H / 16, W / 16). Modules as in `vgg19`."""
    return _trunk(CONVOLUTIONS["vgg16"], width)


def vgg19(width: int = 64) -> nn.Sequential:
    """VGG-19 up to its last ReLU: (N, 3, H, W) -> (N, 8 width, H / 16, W / 16)

    Modules are numbered as in torchvision's vgg19().features, whose weights can be loaded.
    """
    return _trunk(CONVOLUTIONS["vgg19"], width)


def _trunk(counts: tuple[int, ...], width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for level, count in enumerate(counts):
        layers += [nn.MaxPool2d(2)] if level else []
        after = width * min(2**level, 8)
        for _ in range(count):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(True)]
            before = after
    return nn.Sequential(*layers)
