"""The cases of the op benchmarks: `fastgan bench ops` and benchmarks/ops run the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from fastgan.bench import bias_act, class_loss, conv_pool, convolution, fuse, gan_loss, norm_act, resize_conv
from fastgan.bench.timing import Row, interleaved, rows


class Case(Protocol):
    """A case of one op; its text is its name in the tables."""

    @property
    def facts(self) -> dict[str, Any]: ...

    def variants(self) -> dict[str, Callable[[], Any]]:
        """Name -> call, what a user runs now first. Raises WrongResult where the numbers disagree."""
        ...


def cases() -> Iterator[Case]:
    yield from norm_act.cases()
    yield from bias_act.cases()
    yield from gan_loss.cases()
    yield from class_loss.cases()
    yield from resize_conv.cases()
    yield from conv_pool.cases()
    yield from convolution.cases()
    yield from fuse.cases()


def measure(rounds: int = 15) -> list[Row]:
    return [row for case in cases() for row in rows(str(case), interleaved(case.variants(), rounds=rounds), case.facts)]
