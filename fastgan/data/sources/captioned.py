"""Rows with a text each, in words and in tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from fastgan.data.fields import Texts
from fastgan.data.problems import examples, printable
from fastgan.data.sources.parts import kept_for_test, rows_of
from fastgan.data.texts import Vocabulary, length_of, too_long


class Captioned:
    """A map-style source whose rows may have texts.

    captions: a text each, "" where there is none; or empty.   text: as it is wanted, None as it is.
    """

    name: str
    captions: Sequence[str]
    text: Texts | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def stems(self) -> Sequence[str]:
        """What tells each row from the others, whatever else there is."""
        return [str(row) for row in range(len(self))]

    def take(self, rows: Sequence[int]) -> Any:
        """Those rows alone, in that order."""
        raise NotImplementedError

    def part(self, part: str) -> Any:
        """The part "train" or "test": nine tenths or a tenth of the rows, told from their stems, so that what is added
        moves nothing. ValueError for another part or an empty one."""
        other = self.take(rows_of(self.stems, part, printable(self.name)))
        return other.renamed(f"{self.name}@{part}", self.text_field if self.captions else None)

    @cached_property
    def text_field(self) -> Texts:
        """As it is wanted, else as long as the longest text, with the words of the training part's."""
        return self.text or Texts(length_of(self.captions), Vocabulary.of(self.training_texts()).words)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the tokens."""
        return Vocabulary(self.text_field.words)

    def training_texts(self) -> Iterable[str]:
        return (text for text, stem in zip(self.captions, self.stems) if not kept_for_test(stem))

    def texts(self, indices: Iterable[int]) -> list[str]:
        """The texts of those rows, in words."""
        return [self.captions[index] for index in indices]

    def tokens(self, indices: Iterable[int]) -> Tensor:
        """(B, length) int64, the texts of those rows in tokens."""
        return self.vocabulary.encode(self.texts(indices), self.text_field.length)

    def wanted_text(self, wanted: Texts) -> Texts:
        """The field as it is wanted, of the words that are known where none are. ValueError for a text that is longer
        than the field."""
        for text in self.captions:
            if (tokens := length_of([text])) > wanted.length:
                raise ValueError(f"{printable(self.name)}: {too_long(text, tokens, wanted.length)}")
        return Texts(wanted.length, wanted.words or self.text_field.words)

    def with_text(self, names: Sequence[str]) -> tuple[list[int], str]:
        """The rows that have a text, and what is to be said of the others. ValueError if none has.

        names: of the rows.
        """
        rows = [row for row, text in enumerate(self.captions) if text]
        without = [name for name, text in zip(names, self.captions) if not text]
        if not rows:
            raise ValueError(
                f"{printable(self.name)}: none of {len(self)} pictures has a text, such as {examples(without)}: give "
                f"them texts"
            )
        said = f"{len(without)} of {len(self)} pictures have no text and are left out: {examples(without)}"
        return rows, f"{printable(self.name)}: {said}" if without else ""
