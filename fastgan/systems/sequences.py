"""Systems that make sequences of words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.data.fields import Batch, Field, Texts
from fastgan.data.panel import Panel
from fastgan.systems.base import Output, System, evaluating

if TYPE_CHECKING:
    from fastgan.data.texts import Vocabulary


class Sequences(System):
    """Tokens (N, length) out of random numbers. A subclass gives `generate` and sets `length`."""

    length: int = 24
    vocabulary: Vocabulary | None = None  # of the data, which a run keeps

    def inputs(self) -> dict[str, Field]:
        return {"text": Texts(self.length)}

    def told_of(self, data: Mapping[str, Any]) -> None:
        super().told_of(data)
        if words := data.get("vocabulary"):
            from fastgan.data.texts import Vocabulary

            self.vocabulary = Vocabulary(words)

    @abstractmethod
    def generate(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, length) int64 tokens, in the mode that is set."""

    @torch.no_grad()
    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """(count, length) int64 tokens, by the networks in eval mode. `vocabulary.decode` makes words of them."""
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        with evaluating(self):
            return self.generate(count, generator)

    def probe(self, source: Any, count: int, generator: torch.Generator) -> Batch:
        """Some texts of the data, which `show` puts beside what is made."""
        from fastgan.data import take  # whoever trains without previews needs what torch needs

        return take(source, count).map(lambda values: values.to(self.device))

    def show(self, probe: Batch) -> list[Panel]:
        made = self.sample(len(probe.text), generator=torch.Generator().manual_seed(0))
        words = self.vocabulary.decode(made) if self.vocabulary else [str(row.tolist()) for row in made]
        return [Panel("samples", texts=tuple(words))]

    def outputs(self, source: Any, count: int, generator: torch.Generator, size: int = 64) -> Iterator[Output]:
        for start in range(0, count, size):
            yield Output(self.sample(min(size, count - start), generator=generator), "text")
