"""The networks of features by name: what each is for, where its weights are found, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from fastgan.pretrained import lite0, small, vgg
from fastgan.pretrained.features import Features


class Entry(NamedTuple):
    """meaning: what it is for, in a line.   find: its file; ImportError or FileNotFoundError, with what to do, where
    there is none.   load: the features of that file."""

    meaning: str
    find: Callable[[], Path]
    load: Callable[[Path], Features]


ENTRIES = {
    "small": Entry("for perceptual losses and distances where there is nothing else", small.find, small.load),
    "lite0": Entry("EfficientNet-lite0, trained on ImageNet: to measure with", lite0.find, lite0.load),
    "vgg16": Entry(
        "VGG-16, trained on ImageNet: for perceptual losses", partial(vgg.find, "vgg16"), partial(vgg.load, "vgg16")
    ),
    "vgg19": Entry(
        "VGG-19, trained on ImageNet: for perceptual losses", partial(vgg.find, "vgg19"), partial(vgg.load, "vgg19")
    ),
}
NAMES = tuple(ENTRIES)


def features(name: str | os.PathLike[str] = "small", device: str | torch.device = "cpu") -> Features:
    """The features of that name, one of `NAMES`, or of a file of weights of the network `small_features`.

    ValueError for a name that there is not, weights of another network, or a file that is damaged; ImportError or
    FileNotFoundError, with what to do, where the weights of that name are not on this machine.
    """
    if entry := ENTRIES.get(str(name)):
        return entry.load(entry.find()).to(device)
    if Path(name).is_file():
        return small.load(Path(name)).to(device)
    raise ValueError(f"features must be {', '.join(NAMES)}, or a file of weights, not {str(name)!r}")
