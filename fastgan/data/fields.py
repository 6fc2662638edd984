"""What a data set has and what a system wants: named fields, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from fastgan.data.size import check_fit


@dataclass(frozen=True)
class Images:
    """Pictures: uint8 where they are stored, (B, channels, height, width) float32 in [-1, 1] in a batch.

    fit: how a picture of another aspect ratio becomes one of these: "crop" takes the middle part of the wanted ratio,
        "stretch" all of it; "cut" takes a window of the size of one of these at full resolution, at a place that is
        drawn anew each epoch, of smaller pictures enlarged so far. Two that differ in this alone are equal.
    """

    channels: int
    height: int
    width: int
    fit: str = field(default="crop", compare=False)

    def __post_init__(self) -> None:
        check_fit(self.fit)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def __str__(self) -> str:
        return f"images of {self.width}x{self.height} pixels and {self.channels} channel{'s' * (self.channels > 1)}"


@dataclass(frozen=True)
class Labels:
    """Classes by number, (B,) int64. `names`: of the classes, in the order of their numbers; empty: not known."""

    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return f"labels of {len(self.names) or 'unnamed'} classes"


@dataclass(frozen=True)
class Texts:
    """Tokens, (B, length) int64. The words stay with the source.

    words: of the tokens, as `Vocabulary` has them; empty: not known. Two that differ in these alone are equal.
    """

    length: int
    words: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return f"texts of up to {self.length} tokens"


@dataclass(frozen=True)
class Vectors:
    """Points or embeddings, (B, size) float32."""

    size: int

    def __str__(self) -> str:
        return f"vectors of {self.size} numbers"


Field = Images | Labels | Texts | Vectors


def check_wanted(name: str, have: Mapping[str, Field], wanted: Mapping[str, Field]) -> None:
    """ValueError unless the data set of that name has each wanted field, of the wanted kind."""
    if not wanted:
        raise ValueError(f"at least one field must be wanted; {name} has {listed(have)}")
    for key, kind in wanted.items():
        if key not in have:
            raise ValueError(f"{name} has no {key!r}; it has {listed(have)}")
        if type(have[key]) is not type(kind):
            raise ValueError(f"{key!r} of {name} must be {kind}, not {have[key]}")


def listed(fields: Mapping[str, Field]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in fields.items()) or "nothing"


class LazyFields(Mapping[str, Field]):
    """Fields that are told when they are asked for: what pictures are, their headers have to say.

    known: what tells each.   further: what tells those that are found last, where one is asked for that is not known.
    """

    def __init__(
        self,
        known: Mapping[str, Callable[[], Field]],
        further: Callable[[], Mapping[str, Callable[[], Field]]] = dict,
    ) -> None:
        self._known = dict(known)
        self._further = further

    def __getitem__(self, name: str) -> Field:
        return (self._known if name in self._known else self._all)[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in self._all

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @cached_property
    def _all(self) -> dict[str, Callable[[], Field]]:
        return {**self._further(), **self._known}


class Batch(Mapping[str, Tensor]):
    """Tensors by the names of their fields, each with B rows: `batch.image` is `batch["image"]`.

    A pytree, so that what walks over nested tensors (`torch.utils._pytree`, graphs, transforms) sees them.
    """

    _values: dict[str, Tensor]

    def __init__(self, **fields: Tensor) -> None:
        self._values = fields

    def __getitem__(self, name: str) -> Tensor:
        return self._values[name]

    def __getattr__(self, name: str) -> Tensor:
        fields = vars(self).get("_values", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"the batch has no {name!r}; it has {', '.join(fields) or 'nothing'}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        """How many fields. `batch.count` is how many rows."""
        return len(self._values)

    def __repr__(self) -> str:
        fields = (f"{name}={str(value.dtype)[6:]}{tuple(value.shape)}" for name, value in self._values.items())
        return f"Batch({', '.join(fields)})"

    @property
    def count(self) -> int:
        """Rows."""
        return len(next(iter(self._values.values())))

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with `function` of every tensor."""
        return Batch(**{name: function(value) for name, value in self._values.items()})

    @staticmethod
    def cat(parts: Sequence[Batch]) -> Batch:
        """The rows of batches of the same fields, one batch after the other."""
        first, *others = parts
        if not others:
            return first
        return Batch(**{name: torch.cat([part[name] for part in parts]) for name in first})


def _flatten(batch: Batch) -> tuple[list[Any], list[str]]:
    return list(batch.values()), list(batch)


def _unflatten(values: Any, names: list[str]) -> Batch:
    return Batch(**dict(zip(names, values)))


_pytree.register_pytree_node(Batch, _flatten, _unflatten, serialized_type_name="fastgan.data.fields.Batch")
