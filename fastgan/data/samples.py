"""Whole batches out of map-style data sets, in any number of worker processes."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, get_worker_info

from fastgan.data.decode import quiet
from fastgan.data.items import Row, notes_on, row_of, unreadable
from fastgan.data.problems import Note
from fastgan.random import private


class Read(NamedTuple):
    """A batch as it was read: tensors by field, such as images (B, C, H, W) and labels (B,) int64, and notes on it."""

    fields: dict[str, Tensor]
    notes: list[Note]


class Samples(Dataset[Read | Exception]):
    """Reads whole batches of a map-style data set that the user brought.

    Every item is read with Python's, NumPy's and PyTorch's CPU generators seeded for it, so that random augmentations
    give the same image in any worker and after a resume. Lists, tuples and a TensorDataset draw nothing.
    """

    def __init__(self, source: Any, only: Sequence[str] | None = None) -> None:
        self.source = source
        self.only = only  # the fields to keep; None: all
        self.draws_nothing = type(source) in (list, tuple, TensorDataset)

    def __getitem__(self, chosen: Sequence[tuple[int, int]]) -> Read | Exception:
        """chosen: (index, seed) of each item.   ->   the batch, or the error that names an item that cannot be used.

        The error is returned, not raised: the DataLoader would wrap its message in two tracebacks, and hold itself in a
        reference cycle that ends in five seconds of waiting for its workers (torch 2.13).
        """
        rows: list[Row] = []
        notes: list[Note] = []
        for index, seed in chosen:
            with nullcontext() if self.draws_nothing else seeded(seed):
                row = self._row(index, notes)
            if isinstance(row, Exception):
                return row
            rows.append(row)
        return checked([chosen_of(row, self.only) for row in rows], [f"item {index}" for index, _ in chosen], notes)

    def _row(self, index: int, notes: list[Note]) -> Row | Exception:
        what = f"item {index} of the data set"
        try:
            item = self.source[index]
        except Exception as error:
            return unreadable(what, error)
        notes += notes_on(item, f"item {index}")
        return row_of(item, what)


class Decoded(Dataset[Read | Exception]):
    """Reads whole batches of a source whose rows are alike and need no seed: `read(index)` gives a row and notes."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __getitem__(self, chosen: Sequence[tuple[Any, ...]]) -> Read | Exception:
        """chosen: (index,) of each row, or (index, place) where windows are cut.   ->   the batch, or the error to
        raise."""
        try:
            with quiet():
                read = [self.source.read(*each) for each in chosen]
        except Exception as error:
            return error
        return stacked([row for row, _ in read], [note for _, notes in read for note in notes])


def chosen_of(row: Row, only: Sequence[str] | None) -> Row:
    return row if only is None else {name: value for name, value in row.items() if name in only}


def stacked(rows: Sequence[Row], notes: list[Note]) -> Read:
    """The rows, which are alike, as one batch."""
    first = rows[0] if rows else {}
    return Read({name: _column([row[name] for row in rows]) for name in first}, notes)


def _column(values: Sequence[Any]) -> Tensor:
    return torch.stack(list(values)) if isinstance(values[0], Tensor) else torch.tensor(values)


def checked(rows: Sequence[Row], names: Sequence[str], notes: list[Note]) -> Read | Exception:
    """The rows as one batch, or the error that names one that is unlike the first."""
    kinds = [kind_of(row) for row in rows]
    for name, kind in zip(names, kinds):
        if kind != kinds[0]:
            return unlike(f"{name} is {kind}, {names[0]} is {kinds[0]}")
    return stacked(rows, notes)


def kind_of(row: Mapping[str, Tensor | int]) -> str:
    """What all items of a data set must have in common, in words."""
    said = [
        f"{'' if name == 'image' else f'{name} '}{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        for name, value in sorted(row.items())
        if isinstance(value, Tensor) and value.dim()
    ]
    labels = [name for name, value in sorted(row.items()) if not isinstance(value, Tensor) or not value.dim()]
    return f"{', '.join(said)} with a {' and a '.join(labels)}" if labels else f"{', '.join(said)} without a label"


def unlike(difference: str) -> ValueError:
    """The error for items that cannot be in one batch."""
    return ValueError(f"the data set's items must be alike, but {difference}: resize and convert them in the data set")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block Python's, NumPy's and PyTorch's CPU generators, which augmentations draw from, follow from the
    seed, 0..2**32-1. Elsewhere than in a worker process, the states of Python's and NumPy's, which all threads share,
    are put back afterwards; PyTorch's is not touched."""
    worker = get_worker_info() is not None
    states = None if worker else (random.getstate(), np.random.get_state())  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if states is None:
        torch.random.default_generator.manual_seed(seed)
        yield
        return
    try:
        with private(seed):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
