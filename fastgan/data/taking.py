"""Some rows of a source, for what looks at data without training on them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fastgan.data.batches import Batches, cut_of
from fastgan.data.fields import Batch
from fastgan.data.order import length
from fastgan.data.source import parts_of, source_of


def take(source: Any, count: int, *, seed: int = 0) -> Batch:
    """At most `count` rows of what `Batches` takes, on the CPU: a choice by `seed`, of a stream about the first. Of
    several groups of fields as many rows each; of few large pictures several windows each."""
    source = source_of(source)
    for part in parts_of(source):
        with suppress(TypeError):  # a stream has no length
            count = min(count, length(len(part), bool(cut_of(part))))
    return next(Batches(source, count, seed=seed, channels_last=False, workers=0, memory=0))
