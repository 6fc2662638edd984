"""Systems that draw what a sentence says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.data.fields import Batch, Field, Texts
from fastgan.data.panel import Panel
from fastgan.systems.base import Output, evaluating
from fastgan.systems.generative import Generative

if TYPE_CHECKING:
    from fastgan.data.texts import Vocabulary


class TextToImage(Generative):
    """Images of sentences: `vocabulary` turns them into tokens (N, length), `generate(latent, tokens)` draws them.

    A subclass sets `length`, the tokens of a sentence at most.
    """

    length: int = 24
    vocabulary: Vocabulary | None = None  # of the data, which a run keeps

    def inputs(self) -> dict[str, Field]:
        return {**super().inputs(), "text": Texts(self.length)}

    def told_of(self, data: Mapping[str, Any]) -> None:
        super().told_of(data)
        if words := data.get("vocabulary"):
            from fastgan.data.texts import Vocabulary

            self.vocabulary = Vocabulary(words)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, length) int64 on the system's device. ValueError where the system knows no words yet."""
        if self.vocabulary is None:
            raise ValueError(f"{self.name} knows no words: they come from the data it is trained on")
        return self.vocabulary.encode(texts, self.length).to(self.device)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        latent: Tensor | None = None,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
        texts: Sequence[str] | Tensor | None = None,
    ) -> Tensor:
        """`count` images of `texts`, in turn: sentences, or their tokens (M, length)."""
        if texts is None or not len(texts):
            raise ValueError(f"{self.name} draws what it is told: give texts, such as texts=['a red heart']")
        tokens = texts.to(self.device) if isinstance(texts, Tensor) else self.encode(texts)
        latent = self._latent(count, latent, generator)
        with evaluating(self):
            return self.generate(latent, tokens[torch.arange(count, device=self.device) % len(tokens)])

    def probe(self, source: Any, count: int, generator: torch.Generator) -> Batch:
        from fastgan.data import take  # whoever trains without previews needs what torch needs

        rows = take(source, count)
        return Batch(latent=self.latent(rows.count, generator), text=rows.text.to(self.device))

    def show(self, probe: Batch) -> list[Panel]:
        samples = self.sample(len(probe.latent), latent=probe.latent, texts=probe.text)
        words = () if self.vocabulary is None else tuple(self.vocabulary.decode(probe.text))
        return [Panel("samples", {"samples": samples}, texts=words)]

    def outputs(self, source: Any, count: int, generator: torch.Generator, size: int = 64) -> Iterator[Output]:
        from fastgan.data import take  # whoever trains without previews needs what torch needs

        rows = take(source, count)
        for text, truth in zip(rows.text.split(size), rows[self.makes].split(size)):
            samples = self.sample(len(text), generator=generator, texts=text)
            yield Output(samples, self.makes, truth=truth.to(self.device))
