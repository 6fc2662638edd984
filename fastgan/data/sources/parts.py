"""The parts of a data set: what to train on and what is kept for the test."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

TRAIN, TEST = "train", "test"
PARTS = (TRAIN, TEST)
KEPT = 0.1  # of the pictures, for the test, where no folders say which

# How folders of the parts are called; of those for the test, the earlier is taken where there are several.
TRAINING = ("train", "training")
TESTING = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation", "holdout")


def check_part(part: str) -> None:
    """Raises ValueError unless part is train or test."""
    if part not in PARTS:
        raise ValueError(f"a part of a data set is train or test, not {part!r}")


def word_of(name: str) -> str:
    """What a folder or file is called but for numbers: train of train2017, test-00000-of-00001.parquet."""
    return re.split(r"[\W\d_]", name.lower(), maxsplit=1)[0]


def named(names: Iterable[str], part: str) -> str | None:
    """Of the names, the one of the part; None where there is none, or several that could be it."""
    names = list(names)
    if part == TRAIN:
        found = [name for name in names if word_of(name) in TRAINING]
    else:
        first = next((word for word in TESTING if any(word_of(name) == word for name in names)), None)
        found = [name for name in names if word_of(name) == first]
    return found[0] if len(found) == 1 else None


def kept_for_test(stem: str) -> bool:
    """Whether a picture is one of the tenth that is kept, told from its path without extension alone: what is added
    later moves no other picture, and pictures of one stem stay together."""
    composed = unicodedata.normalize("NFC", stem).replace("\\", "/")
    number = int.from_bytes(hashlib.sha256(composed.encode(errors="surrogateescape")).digest()[:8], "big")
    return number < KEPT * 2**64


def rows_of(stems: Sequence[str], part: str, name: str) -> list[int]:
    """The rows of a part, in order. Raises ValueError if there is none."""
    check_part(part)
    rows = [row for row, stem in enumerate(stems) if kept_for_test(stem) == (part == TEST)]
    if not rows:
        raise ValueError(
            f"{name}: of {len(stems)} pictures none falls into the part {part}, which has about "
            f"{'a tenth' if part == TEST else 'nine tenths'} of them: put some into a folder called {part}"
        )
    return rows
