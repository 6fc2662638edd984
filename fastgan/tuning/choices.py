"""What an op with several ways of computing the same asks at each call: which of them is fastest here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastgan.tuning import store

TORCH = "torch"  # the name of PyTorch's own way, which every tunable op has
EXACT = "float64"


@dataclass(frozen=True)
class Tunable:
    """An op that `fastgan.tune` can measure. Its keys are tuples of numbers, strings, truth values, dtypes and such
    tuples."""

    # Of a key: the name of each way -> a call of it on random data, which returns a tensor. TORCH is among them, and
    # EXACT may be: the same from the same data in float64, by which the others are judged.
    candidates: Callable[[Any], dict[str, Callable[[], Tensor]]]
    describe: Callable[[Any], str]  # of a key, for the report
    # PyTorch's functions -> functions that compute the same and ask for a choice, so that unfused modules can be tuned
    replaces: Mapping[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)


_winners: Mapping[tuple[str, Any, int], str] | None = None  # (op, key, threads) -> name; None before the first question
_remembering = threading.Lock()
# (op, key) -> what is used now, while recording
_recorded: ContextVar[dict[tuple[str, Any], str] | None] = ContextVar("choices", default=None)


def choice(op: str, key: Hashable, default: str) -> str:
    """The fastest way to compute `op` as measured here by `tune`, else `default`.

    Args:
        op: its name.
        key: all that its speed depends on, but for the machine and the number of threads.
        default: the name of the way to take where nothing was measured.
    """
    chosen = found().get((op, key, torch.get_num_threads()), default)
    if not torch.compiler.is_dynamo_compiling() and (recorded := _recorded.get()) is not None:
        recorded[op, key] = chosen
    return chosen


def found() -> Mapping[tuple[str, Any, int], str]:
    """All that was measured here: (op, key, threads) -> the fastest way."""
    global _winners
    winners = _winners  # which another thread may forget at any moment
    if winners is None:
        winners = _winners = {question: entry["choice"] for question, entry in store.read().items()}
    return winners


def forget() -> None:
    """Drops what this process knows; the next question reads the cache again."""
    global _winners
    _winners = None


def remember(measured: Mapping[tuple[str, Any, int], str]) -> None:
    """Uses these choices in this process from now on."""
    global _winners
    with _remembering:
        _winners = {**found(), **measured}  # another dictionary: a thread may be reading this one


@contextmanager
def recording() -> Iterator[dict[tuple[str, Any], str]]:
    """Yields what is asked meanwhile: (op, key) -> the answer."""
    recorded: dict[tuple[str, Any], str] = {}
    token = _recorded.set(recorded)
    try:
        yield recorded
    finally:
        _recorded.reset(token)
