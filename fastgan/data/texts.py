"""Words as numbers: the vocabulary of a data set's texts."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from fastgan.data.checks import check_positive_int
from fastgan.data.problems import printable

PADDING, UNKNOWN, START, END = range(4)
SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")
FRAME = 2  # tokens of a text beside its words: start and end

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
SHOWN = 60  # characters of a text in an error


def words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks: "It's red." -> it's, red, ."""
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


class Vocabulary:
    """Words and their tokens: word i of `words` is token i. The first four are padding, unknown, start, end.

    words: with the special ones, as `list(vocabulary)` gave them: plain text that goes into a checkpoint.
    Raises ValueError where a word stands twice, or the special ones do not stand first.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        if self.words[: len(SPECIAL)] != SPECIAL:
            given = printable(", ".join(self.words[: len(SPECIAL)])) or "nothing"
            raise ValueError(f"a vocabulary begins with {', '.join(SPECIAL)}, not {given}")
        self._tokens = {word: token for token, word in enumerate(self.words)}
        if len(self._tokens) < len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ValueError(f"a vocabulary has each word once, not {printable(repr(twice))} twice")

    @classmethod
    def of(cls, texts: Iterable[str], most: int | None = None) -> Vocabulary:
        """The words of the texts, the most frequent first, those as frequent by their characters; at most `most`."""
        if most is not None:
            check_positive_int("most", most)
        counts = Counter(word for text in texts for word in words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls((*SPECIAL, *ranked[:most]))

    def __len__(self) -> int:
        """Words, the special ones among them: the rows of an embedding."""
        return len(self.words)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words)"

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """(B, length) int64: start, the words, end, then padding.

        Raises ValueError for a text that is longer, TypeError for what is no sequence of texts.
        """
        check_positive_int("length", length)
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            kinds = {type(text).__name__ for text in texts} - {"str"}
            raise TypeError(f"texts must be a sequence of strings, not {' or '.join(sorted(kinds)) or 'one string'}")
        tokens = torch.full((len(texts), length), PADDING, dtype=torch.int64)
        for row, text in zip(tokens, texts):
            known = [START, *(self._tokens.get(word, UNKNOWN) for word in words(text)), END]
            if len(known) > length:
                raise ValueError(too_long(text, len(known), length))
            row[: len(known)] = torch.tensor(known)
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        """The texts of tokens (B, length), each up to its end, the words joined by spaces.

        Raises ValueError for tokens of another shape or that are no word's.
        """
        if not isinstance(tokens, Tensor) or tokens.dim() != 2 or tokens.is_floating_point() or tokens.is_complex():
            given = f"{tokens.dtype} {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"tokens must be an integer tensor (B, length), not {given}")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self):
            raise ValueError(f"tokens must lie in 0..{len(self) - 1}, not {int(tokens.min())}..{int(tokens.max())}")
        return [self._text(row) for row in tokens.tolist()]

    def _text(self, tokens: Sequence[int]) -> str:
        until = tokens.index(END) if END in tokens else len(tokens)
        return " ".join(self.words[token] for token in tokens[:until] if token not in (PADDING, START))


def length_of(texts: Iterable[str]) -> int:
    """Tokens that the longest of the texts takes."""
    return max((len(words(text)) for text in texts), default=0) + FRAME


def too_long(text: str, tokens: int, length: int) -> str:
    shown = printable(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
    return (
        f"the text {shown!r} takes {tokens} tokens with start and end, the field has {length}: shorten it, or give the "
        f"field at least {tokens}"
    )
