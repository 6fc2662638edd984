"""The cases of the op benchmarks: `fastgan bench ops` and benchmarks/bench_ops.py run the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from fastgan.bench.cases import bias_act, class_loss, conv_pool, convolution, fuse, gan_loss, norm_act, resize_conv
from fastgan.bench.timing import OURS, Row, failure, interleaved, rows
from fastgan.messages import log
from fastgan.training import process


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


def cuda_cases() -> Iterator[Case]:
    """The ops that have kernels there, DCGAN's shapes at batch 1024 and 128."""
    yield Copy()
    yield from norm_act.cuda_cases()
    yield from bias_act.cuda_cases()
    yield from gan_loss.cuda_cases()
    yield from class_loss.cuda_cases()


class Copy:
    """The rate at which memory is copied: what a kernel that does next to no arithmetic can reach."""

    def __str__(self) -> str:
        return "copy of 1 GiB"

    @property
    def facts(self) -> dict[str, Any]:
        return {"op": "copy", "bytes": 2 << 30}  # read and written

    def variants(self) -> dict[str, Callable[[], Any]]:
        from_, to = (torch.zeros(1 << 28, device="cuda") for _ in range(2))
        return {"copy_": lambda: to.copy_(from_)}


def measure(rounds: int = 15, device: str = "cpu", only: Sequence[str] = ()) -> list[Row]:
    """`only`: the ops, as the first word of a case names them. ValueError, with their names, for another one."""
    chosen = list(cuda_cases() if device == "cuda" else cases())
    there = dict.fromkeys(map(_op, chosen))
    if unknown := [name for name in only if name not in there]:
        raise ValueError(f"no op {unknown[0]!r}; there are {', '.join(there)}")
    if device == "cpu":
        process.prepare()  # whether freed memory goes back and comes as zeroed pages is else a matter of luck
    result = []
    for case in chosen:
        if only and _op(case) not in only:
            continue
        try:
            calls = case.variants()
        except Exception as error:
            if device == "cpu":
                raise
            # Elsewhere than on the machine that the kernels were made on, the other cases are worth having.
            log.warning("%s: %s", case, error)
            result.append(failure(str(case), OURS, str(error).splitlines()[0], case.facts))
            continue
        measured = rows(str(case), interleaved(calls, rounds=rounds, device=device), case.facts)
        result += [replace(row, role="ours") if row.variant == OURS else row for row in measured]
    return result


def _op(case: Case) -> str:
    return str(case).split()[0].rstrip(",")
