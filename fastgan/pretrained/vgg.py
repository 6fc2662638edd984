"""`vgg16` and `vgg19`, trained on ImageNet: of torchvision's files, which the user brings once (`fastgan weights`)."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from fastgan.files import replace_file
from fastgan.networks import vgg
from fastgan.pretrained.features import Features, Normalize
from fastgan.pretrained.files import check, filled, read
from fastgan.tuning.store import folder

FILES = {"vgg16": "vgg16-397923af.pth", "vgg19": "vgg19-dcbb9e9d.pth"}  # of torchvision, IMAGENET1K_V1
NETWORKS = {"vgg16": vgg.vgg16, "vgg19": vgg.vgg19}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pictures in [0, 1], as torchvision trained them
PREFIX = "features."  # of the names of the convolutions; others are of the classifier
LEAST = 16  # pixels a side, of which the fourth halving leaves one


def find(name: str) -> Path:
    """The file in the cache directory. FileNotFoundError, with the line that brings it there."""
    for file in _kept(name):
        return file
    raise FileNotFoundError(
        f"the weights of {name} are not here: fastgan weights {name} --from {FILES[name]}, which is the file that "
        f"torchvision loads from https://download.pytorch.org/models/{FILES[name]}"
    )


def load(name: str, path: Path) -> Features:
    check(path, _digits(path), f"bring it again: fastgan weights {name} --from {FILES[name]}")
    content = read(path)
    network = filled(NETWORKS[name], content["weights"], path, f"weights of {name}")
    known = content["sha256"].startswith(_digits(Path(FILES[name])))
    said = name if known else f"{name}, not torchvision's weights, SHA-256 {content['sha256'][:16]}"
    modules = list(network)
    stages, layers, start = [], [], 0
    for level, count in enumerate(vgg.CONVOLUTIONS[name]):
        end = start + bool(level) + 2 * count  # the halving, and each convolution with its ReLU
        stages.append(nn.Sequential(*modules[start:end]))
        layers.append(f"relu{level + 1}_{count}")
        start = end
    stages[0] = nn.Sequential(Normalize(MEAN, DEVIATION), *stages[0])
    return Features(said, nn.Sequential(*stages), layers, least=LEAST)


def bring(name: str, given: str | os.PathLike[str]) -> tuple[Path, str]:
    """Keeps the convolutions of a file in the cache directory, in place of what was there, where `find` finds them.

    given: what torchvision's model of that name has as its state_dict.   ->   the file, and what is to be said of it.
    FileNotFoundError, or ValueError for a damaged file, another network, or what is more than tensors.
    """
    path = Path(given)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give torchvision's {FILES[name]}")
    digits = _digits(Path(FILES[name]))
    found = check(path, digits if path.name == FILES[name] else "", "download it again")
    content = read(path)
    if isinstance(content, Mapping):
        content = {key.removeprefix(PREFIX): value for key, value in content.items() if str(key).startswith(PREFIX)}
    network = filled(NETWORKS[name], content, path, f"weights of {name}, by torchvision's names features.0.weight, ...")
    stream = io.BytesIO()
    torch.save({"sha256": found, "weights": network.state_dict()}, stream)
    kept = folder() / "weights" / f"{name}-{sha256(stream.getvalue()).hexdigest()[:16]}.pt"
    kept.parent.mkdir(parents=True, exist_ok=True)
    replace_file(kept, stream.getvalue())
    for other in _kept(name):
        if other != kept:
            other.unlink(missing_ok=True)
    if found.startswith(digits):
        return kept, "torchvision's weights"
    return kept, f"not the weights of torchvision's {FILES[name]}; pictures are normalized as for these"


def _kept(name: str) -> list[Path]:
    return sorted((folder() / "weights").glob(f"{name}-*.pt"))


def _digits(path: Path) -> str:
    """Those in the name of a file, with which its SHA-256 begins."""
    return path.stem.rpartition("-")[2]
