"""Systems that make one picture of another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastgan.data.fields import Batch, Field, Images
from fastgan.data.panel import Panel
from fastgan.systems.base import Output, System, evaluating


class Translator(System):
    """Pictures of one field become pictures of another: `directions` names each way with the two fields.

    A subclass gives `forward`. Where both fields are of one group of the data, its rows are pairs: previews and
    evaluation then show and compare the truth.
    """

    directions: ClassVar[Mapping[str, tuple[str, str]]] = {"forward": ("source", "target")}
    paired: ClassVar[bool] = True  # whether the data have the two pictures of a pair in one row

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the pictures it trains on."""
        return self.config.channels, self.config.resolution, self.config.resolution

    def inputs(self) -> dict[str, Field]:
        names = dict.fromkeys(name for pair in self.directions.values() for name in pair)
        return {name: Images(*self.image_shape) for name in names}

    @classmethod
    def options_for(cls, fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
        """`channels`: three where a field has colors; `resolution`: the power of two below the shortest side, from 32
        to 128."""
        images = [field for field in fields.values() if isinstance(field, Images)]
        if not images:
            return {}
        side = min(min(field.height, field.width) for field in images)
        found = {
            "channels": max(field.channels for field in images),
            "resolution": min(max(32, 1 << (side.bit_length() - 1)), 128),
        }
        return {name: value for name, value in found.items() if name not in given and hasattr(cls.Config, name)}

    @abstractmethod
    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, C', H', W'), in the mode (train or eval) and grad mode that is set."""

    @torch.no_grad()
    def translate(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        """`images` (N, C, H, W) in [-1, 1] translated, by the networks in eval mode: no state changes.

        direction: one of `directions`; the first where it is not given.   inputs: what the system takes beside, such as
        a reference.
        """
        if images.dim() != 4 or not len(images):
            raise ValueError(f"images must be (N, C, H, W) with at least one image, not {tuple(images.shape)}")
        direction = self.way(direction)
        with evaluating(self):
            return self(images.to(self.device), direction, **inputs)

    def way(self, direction: str | None) -> str:
        """A direction by name, the first by default. ValueError for another one."""
        if direction is None:
            return next(iter(self.directions))
        if direction not in self.directions:
            raise ValueError(f"direction must be one of {', '.join(self.directions)}, not {direction!r}")
        return direction

    def recording(self) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
        """The first direction."""
        return self.forward, {"images": torch.zeros(2, *self.image_shape, device=self.device, dtype=self.dtype)}

    def probe(self, source: Any, count: int, generator: torch.Generator) -> Batch:
        from fastgan.data import take  # whoever trains without previews needs what torch needs

        return take(source, count).map(lambda values: values.to(self.device))

    def show(self, probe: Batch) -> list[Panel]:
        panels = []
        for direction, (before, after) in self.directions.items():
            parts = {"input": probe[before], "output": self.translate(probe[before], direction)}
            if self.paired:
                parts["truth"] = probe[after]
            panels.append(Panel(direction, parts))
        return panels

    def outputs(self, source: Any, count: int, generator: torch.Generator, size: int = 16) -> Iterator[Output]:
        from fastgan.data import take

        rows = take(source, count)
        for direction, (before, after) in self.directions.items():
            for start in range(0, len(rows[before]), size):
                images = rows[before][start : start + size].to(self.device)
                truth = rows[after][start : start + size].to(self.device) if self.paired else None
                yield Output(self.translate(images, direction), after, truth)
