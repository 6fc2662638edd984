"""A network of features by name, frozen."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from fastgan.networks.small_features import small_features

NAMES = ("small",)
SMALL = Path(__file__).with_name("small.pt")
SMALL_SHA256 = "7d5adbf8b4c32413f9daf12367ba056f74e0950907f630fbfbd3e9a005883aec"


class Features(nn.Module):
    """Maps and descriptions of pictures by a network that is trained already, frozen, in eval mode.

    name: for protocols.   stages: modules that follow one another; the result of each is a map.   layers: their names.
    """

    def __init__(self, name: str, stages: nn.Sequential, layers: tuple[str, ...]) -> None:
        super().__init__()
        self.name = name
        self.layers = layers
        self.stages = stages
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Features:
        """Stays in eval mode, whatever contains it."""
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 1 or 3, H, W) in [-1, 1] -> the maps of `layers`, (N, C, H', W') each. Differentiable in the images."""
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must be (N, 1 or 3, H, W), not {tuple(images.shape)}")
        values = images.expand(-1, 3, -1, -1)
        maps = []
        for stage in self.stages:
            values = stage(values)
            maps.append(values)
        return maps

    @torch.no_grad()
    def describe(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) in [-1, 1] -> (N, D): the means over space of all maps."""
        return torch.cat([values.mean((2, 3)) for values in self(images)], dim=1)


def features(name: str | os.PathLike[str] = "small", device: str | torch.device = "cpu") -> Features:
    """The features of that name: `small`, or a file of weights of that network.

    ValueError for a name that there is not, weights of another network, or a file that is damaged.
    """
    if str(name) == "small":
        return _small(SMALL, SMALL_SHA256).to(device)
    if Path(name).is_file():
        return _small(Path(name), None).to(device)
    raise ValueError(f"features must be {' or '.join(NAMES)}, or a file of weights, not {str(name)!r}")


def _small(file: Path, checksum: str | None) -> Features:
    content = file.read_bytes()
    if checksum is not None and (found := hashlib.sha256(content).hexdigest()) != checksum:
        raise ValueError(f"{file} is damaged, install fastgan anew: its SHA-256 must be {checksum}, not {found}")
    with torch.device("cpu"):  # whatever the default is now: its weights are read there
        network = small_features()
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except (RuntimeError, AttributeError, EOFError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{file} must hold weights of the network `small_features`, not something else") from error
    return Features("small" if checksum else str(file), network, tuple(f"stage{n + 1}" for n in range(len(network))))
