"""`small`: the network of features that comes with the package."""

from __future__ import annotations

from pathlib import Path

from fastgan.networks.small_features import small_features
from fastgan.pretrained.features import Features
from fastgan.pretrained.files import check, filled, read

FILE = Path(__file__).with_name("small.pt")
SHA256 = "7d5adbf8b4c32413f9daf12367ba056f74e0950907f630fbfbd3e9a005883aec"  # tools/train_features.py


def find() -> Path:
    return FILE


def load(path: Path) -> Features:
    """That of the package, or another file of weights of that network."""
    if path == FILE:
        check(path, SHA256, "install fastgan anew")
    network = filled(small_features, read(path), path, "weights of the network `small_features`")
    name = "small" if path == FILE else str(path)
    return Features(name, network, [f"stage{number + 1}" for number in range(len(network))])
