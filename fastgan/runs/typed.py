"""The fields of `Config` as keyword arguments, for editors and type checkers. A test compares them with the fields."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypedDict


class Given(TypedDict, total=False):
    """What `Trainer` takes of a run."""

    batch_size: int
    seed: int
    workers: int | None
    white: int | None
    precision: str
    graph: bool | str
    memory: str
    channels_last: bool
    flip: bool
    jitter: int
    ema: float
    samples: int | None
    sample_every: int
    checkpoint_every: int
    evaluate_every: int
    metric: str
    patience: int
    log_every: int
    health: bool
    remedy: str
    retries: int
    steps: int
    device: str
    init_from: str | os.PathLike[str] | None


class Changes(Given, total=False):
    """What `Trainer.resume` takes."""

    options: Mapping[str, Any]
