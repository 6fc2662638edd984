"""Systems that make images, or points, of random numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fastgan.data.fields import Batch, Field, Images, Labels, Vectors
from fastgan.data.panel import Panel, by_class
from fastgan.systems.base import Output, System, evaluating
from fastgan.systems.signs import diversity

MOST_BEHIND = 10_000  # points of the data in a picture of points


class Generative(System):
    """A latent becomes an image, or with `resolution` 1 a point of `channels` numbers.

    A subclass gives `latent` and `generate`. `classes` of them where it is conditional.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images it makes."""
        return self.config.channels, self.config.resolution, self.config.resolution

    @property
    def makes(self) -> str:
        """The field of the data that its samples are like: "image" or "vector"."""
        return "vector" if self.config.resolution == 1 else "image"

    def inputs(self) -> dict[str, Field]:
        channels, height, width = self.image_shape
        made: Field = Vectors(channels) if self.makes == "vector" else Images(channels, height, width)
        if not self.classes:
            return {self.makes: made}
        return {self.makes: made, "label": Labels(self.class_names or tuple(map(str, range(self.classes))))}

    @classmethod
    def options_for(cls, fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
        """`channels`, `resolution` (the power of two below the shorter side, from 32 to 64; 1 for vectors) and
        `classes`, as far as the system has these options."""
        found: dict[str, Any] = {}
        made, label = fields.get("image", fields.get("vector")), fields.get("label")
        if isinstance(made, Vectors):
            found |= {"channels": made.size, "resolution": 1}
        elif isinstance(made, Images):
            side = min(made.height, made.width)
            found |= {
                "channels": made.channels,
                "resolution": min(max(32, 1 << side.bit_length() - 1), 64),
            }
        if isinstance(label, Labels) and label.names:
            found["classes"] = len(label.names)
        return {name: value for name, value in found.items() if name not in given and hasattr(cls.Config, name)}

    @abstractmethod
    def latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, ...) latents on the system's device. The same `generator` state gives the same on every device."""

    @abstractmethod
    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) or points (N, C) in [-1, 1] from latents, in the mode (train or eval) and grad mode that
        is set."""

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        latent: Tensor | None = None,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """`count` images, (count, C, H, W), or points, (count, C), in [-1, 1], by the networks in eval mode: no state
        changes.

        `latent`: drawn from `generator` where it is not given. `labels`: of a conditional system every class in turn.
        """
        latent = self._latent(count, latent, generator)
        if self.classes and labels is None:
            labels = torch.arange(count, device=self.device) % self.classes
        with evaluating(self):
            return self.generate(latent, labels)

    def _latent(self, count: int, latent: Tensor | None, generator: torch.Generator | None) -> Tensor:
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        if latent is None:
            return self.latent(count, generator)
        if len(latent) != count:
            raise ValueError(f"count is {count} but latent has {len(latent)} rows (shape {tuple(latent.shape)})")
        return latent

    def recording(self) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
        inputs = {"latent": self.latent(2, torch.Generator().manual_seed(0))}
        return self.generate, {**inputs, "labels": torch.arange(2) % self.classes} if self.classes else inputs

    def probe(self, source: Any, count: int, generator: torch.Generator) -> Batch:
        latent = self.latent(count, generator)
        if self.makes == "image":
            return Batch(latent=latent)
        from fastgan.data import take  # whoever trains without previews needs what torch needs

        points = take(source, MOST_BEHIND)[self.makes]
        return Batch(latent=latent, behind=points.to(self.device))

    def show(self, probe: Batch) -> list[Panel]:
        count, columns = by_class(len(probe.latent), self.classes)
        samples = self.sample(count, latent=probe.latent[:count])
        return [Panel("samples", {"samples": samples}, columns, probe.get("behind"))]

    def signs(self, batch: Batch, probe: Batch, logged: Mapping[str, float]) -> Mapping[str, Tensor] | None:
        """How much samples differ."""
        fake = next(iter(self.show(probe)[0].parts.values()))
        return {f"diversity/{name}": value for name, value in diversity(batch[self.makes], fake).items()} or None

    def outputs(self, source: Any, count: int, generator: torch.Generator, size: int = 64) -> Iterator[Output]:
        """`size`: samples made at once."""
        for start in range(0, count, size):
            rows = min(size, count - start)
            labels = None
            if self.classes:  # in turn over all samples, not anew in each part
                labels = torch.arange(start, start + rows, device=self.device) % self.classes
            yield Output(self.sample(rows, generator=generator, labels=labels), self.makes, labels=labels)
