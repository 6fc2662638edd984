"""The distance of two pictures in the maps of a network: Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time
Style Transfer and Super-Resolution", 2016; Ledig et al. 2017."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss}


class Perceptual(nn.Module):
    """The mean over some layers of the distance of their maps, of what was made and of what it should be.

        loss = Perceptual(fastgan.pretrained.features("small"))
        loss(made, real)

    features: a module with `layers`, their names, that gives their maps, (N, C, H, W) in [-1, 1] -> list; frozen. It is
        no submodule: its weights are in no checkpoint, average or optimizer. It is moved to where the pictures are.
    layers: names of some; none: all.   distance: "mse" or "l1".

    made, real: (N, C, H, W) alike, in [-1, 1]   ->   scalar. No gradient goes to `real`.
    ValueError for a layer or a distance that there is not, and for pictures of different shapes.
    """

    def __init__(self, features: nn.Module, layers: Sequence[str] | None = None, distance: str = "mse") -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"distance must be {' or '.join(DISTANCES)}, not {distance!r}")
        known: tuple[str, ...] = tuple(features.layers)  # type: ignore[arg-type]
        chosen = known if layers is None else tuple(layers)
        if not chosen or (unknown := [name for name in chosen if name not in known]):
            raise ValueError(f"layers must be of {', '.join(known)}, not {', '.join(unknown) if chosen else 'none'}")
        self._features = (features,)  # in a tuple: modules do not register what a tuple holds
        self._places = tuple(known.index(name) for name in chosen)
        self._distance = DISTANCES[distance]

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        if made.shape != real.shape:
            raise ValueError(f"made and real must have one shape, not {tuple(made.shape)} and {tuple(real.shape)}")
        (features,) = self._features
        weight = next(features.parameters())
        if weight.device != made.device or (made.dtype == torch.float64 and weight.dtype != made.dtype):
            features.to(made.device, torch.float64 if made.dtype == torch.float64 else weight.dtype)
        with torch.no_grad():
            wanted = features(real)
        found = features(made)
        parts = [self._distance(_full(found[place]), _full(wanted[place])) for place in self._places]
        return torch.stack(parts).mean()


def _full(values: Tensor) -> Tensor:
    """In float32 at least: squares of half precision overflow."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
