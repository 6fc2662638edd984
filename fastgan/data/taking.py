"""Some rows of a source, for what looks at data without training on them."""

from __future__ import annotations

from typing import Any

from fastgan.data.batches import Batches
from fastgan.data.fields import Batch


def take(source: Any, count: int, *, seed: int = 0) -> Batch:
    """At most `count` rows of what `Batches` takes, on the CPU: a choice by `seed`, of a stream about the first."""
    if hasattr(source, "__len__"):
        count = min(count, len(source))
    return next(Batches(source, count, seed=seed, channels_last=False, workers=0, memory=0))
