"""Features from a network that was trained on other pictures: `lite0`, which knows ImageNet's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastgan.data.checks import checked_images
from fastgan.data.pictures import to_float, to_uint8
from fastgan.metrics.comparison import Described
from fastgan.pretrained import Features, features

CHUNK = 32  # images in work at once


class PretrainedFeatures:
    """Descriptions of images by a network of `fastgan.pretrained`: a name of it, or the network."""

    classes = 0

    def __init__(self, network: str | Features, device: str | torch.device = "cpu") -> None:
        self.network = features(network) if isinstance(network, str) else network
        self.network.to(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Described:
        """images: (N, 1 or 3, H, W), uint8 or floating point in [-1, 1], which is rounded to uint8."""
        device = next(self.network.parameters()).device
        parts = to_uint8(checked_images(images, "images")).split(CHUNK)
        return Described(torch.cat([self.network.describe(to_float(part.to(device))).float() for part in parts]), None)

    def describe(self) -> dict[str, Any]:
        """For the protocol of an evaluation."""
        side = self.network.side
        resize = "none" if side is None else f"{side}x{side}, antialiased bilinear"
        return {"features": self.network.name, "resize": resize, "range": "uint8, then [-1, 1]"}
