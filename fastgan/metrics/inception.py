"""Features from a network in a file that the user has: Inception, for distances to compare with the literature's.

The network of the widely used FID is the one of the TensorFlow archive of 2015-12-05; its TorchScript conversion,
inception-2015-12-05.pt, resizes images itself and takes `return_features`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastgan.data.checks import checked_images
from fastgan.data.pictures import to_uint8
from fastgan.metrics.comparison import Described

CHUNK = 64  # images in work at once


class FileFeatures:
    """Features of images by the network in `path`.

    path: a TorchScript archive, or what torch.export saved (.pt2, with a batch of any size). It takes images
    (N, 3, H, W) uint8 of the size they have, and gives features (N, D); an argument `return_features` of it is True.

    Loading either runs what is in the file: use files of a source you trust. A pickled module is refused.

    Raises FileNotFoundError, ValueError where the file holds no such network.
    """

    classes = 0

    def __init__(self, path: str | os.PathLike[str], device: str | torch.device = "cpu") -> None:
        self.path = Path(path)
        self.device = torch.device(device)
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}: give a TorchScript archive of Inception")
        self._network, self._options = _load(self.path, self.device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Described:
        """images: (N, 1 or 3, H, W), uint8 or floating point in [-1, 1], which is rounded to uint8."""
        images = to_uint8(checked_images(images, "images"))
        if images.shape[1] not in (1, 3):
            raise ValueError(f"images must have 1 or 3 channels, not shape {tuple(images.shape)}")
        features = []
        for part in images.split(CHUNK):
            part = part.to(self.device)
            found = self._network(part.expand(-1, 3, -1, -1).contiguous(), **self._options)
            if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(part):
                given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise ValueError(f"the network in {self.path} must give features ({len(part)}, D), it gave {given}")
            features.append(found.float())
        return Described(torch.cat(features), None)

    def describe(self) -> dict[str, Any]:
        """For the protocol of an evaluation."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {
            "features": f"{self.path.name}, SHA-256 {digest[:16]}",
            "resize": "by the network",
            "range": "uint8, RGB",
        }


def _load(path: Path, device: torch.device) -> tuple[Any, dict[str, bool]]:
    try:
        if path.suffix == ".pt2":
            network = torch.export.load(path).module().to(device)
            return network, {}
        script = torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:  # of whatever kind: the file is the user's
        raise ValueError(
            f"{path} is neither TorchScript nor an exported program (.pt2): {' '.join(str(error).split())[:200]}"
        ) from error
    accepted = {argument.name for argument in script.forward.schema.arguments}
    return script, {"return_features": True} if "return_features" in accepted else {}
