"""What batches are made of: named fields, those of a group drawn together; and sources put together of others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from fastgan.data.checks import checked_images
from fastgan.data.decode import Unusable
from fastgan.data.fields import Field, Images, Labels, Texts, Vectors, check_wanted, listed
from fastgan.data.hub import is_hugging_face, wrapped
from fastgan.data.items import Row, field_of, row_of
from fastgan.data.lazy import Rows
from fastgan.data.problems import Note, printable
from fastgan.data.samples import seeded
from fastgan.data.size import Size, as_size


@runtime_checkable
class Source(Protocol):
    """A data set with named fields.

    fields: what there is, by name.   groups: the names of the fields that are drawn together, a tuple each; fields of
    several groups are drawn apart, each group in an order of its own.

    A source of one group has one of these, too:
        tensors     the values of every field, (N, ...): all are held on the device
        read        read(index) gives (the row: {name: tensor or integer}, notes), `Rows` where some cannot be used
        items, read as `StreamPictures` has them, for what can only be read from its beginning, which has no length
    A source of several has `parts`, a source of one group for each.
    """

    name: str

    @property
    def fields(self) -> Mapping[str, Field]: ...

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]: ...

    def adapted(self, wanted: Mapping[str, Field]) -> Source:
        """The same data with the wanted fields alone, images at that size and with those channels. ValueError, naming
        what there is, for what is not."""
        ...


def source_of(data: Any) -> Source:
    """A source of whatever `Batches` takes; of a string or a path by `fastgan.data.load`.

    Raises TypeError for what cannot be one, ValueError for a tensor whose values cannot be images.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | os.PathLike):
        from fastgan.data.registry import load  # whose sources are put together of those below

        found: Any = load(data)
        return found
    if isinstance(data, Tensor):
        return Tensors("tensor", {"image": data})
    if is_hugging_face(data):
        return wrapped(data)
    indexed = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if isinstance(data, bytes | Mapping) or not (indexed or hasattr(data, "__iter__")):
        raise TypeError(
            f"the source must be an ImageData, a tensor (N, C, H, W), or a data set with __len__ and __getitem__ "
            f"or with __iter__, not {type(data).__name__}: fastgan.data.load gives the named data sets"
        )
    streamed = isinstance(data, IterableDataset) or not indexed
    if streamed and iter(data) is data:
        raise TypeError(
            f"the source is an iterator ({type(data).__name__}), which can be read only once: give an object whose "
            f"__iter__ begins anew every epoch"
        )
    return BroughtStream(data) if streamed else Brought(data)


def parts_of(source: Any) -> Sequence[Any]:
    """A source of one group for each group."""
    return getattr(source, "parts", (source,))


class Tensors:
    """Fields in memory.

    tensors: images (N, C, H, W), uint8 or floating point in [-1, 1]; labels (N,) int64; vectors (N, size) floating
    point; tokens (N, length) int64; all of as many rows.   labels: the names of the classes of `label`.   windows:
    the fields of images of which windows are cut.
    """

    def __init__(
        self,
        name: str,
        tensors: Mapping[str, Tensor],
        classes: Sequence[str] = (),
        windows: Mapping[str, Images] | None = None,
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.windows = dict(windows or {})
        self.tensors = {key: _checked(values, key) for key, values in tensors.items()}
        _check_alike(name, {key: len(values) for key, values in self.tensors.items()})

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    @cached_property
    def fields(self) -> dict[str, Field]:
        return {name: _field(values, self.classes) for name, values in self.tensors.items()} | self.windows

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.fields),)

    def adapted(self, wanted: Mapping[str, Field]) -> Tensors:
        cut = {name: field for name, field in wanted.items() if isinstance(field, Images) and field.fit == "cut"}
        whole = {**wanted, **{name: self._whole(name, field) for name, field in cut.items()}}
        check_as_wanted(self.name, self.fields, whole)
        return Tensors(self.name, {name: self.tensors[name] for name in wanted}, self.classes, cut)

    def _whole(self, name: str, window: Images) -> Field:
        """What the field must be so that the window can be cut of it: as it is where that is large enough."""
        have = self.tensors.get(name)
        if have is None or have.dim() != 4 or have.shape[2] < window.height or have.shape[3] < window.width:
            return window
        return replace(window, height=have.shape[2], width=have.shape[3])


class Brought:
    """A map-style data set of the user's, `data`; its fields are those of its first item."""

    def __init__(self, data: Any, only: Sequence[str] | None = None) -> None:
        self.data = data
        self.only = only
        self.name = str(getattr(data, "name", type(data).__name__))
        classes = getattr(data, "classes", ())
        self.classes = tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def fields(self) -> dict[str, Field]:
        with seeded(0) if not isinstance(self.data, list | tuple) else nullcontext():
            row = row_of(self._first(), f"the first item of {self.name}")
        if isinstance(row, Exception):
            raise row
        fields = {name: field_of(value, self.classes) for name, value in row.items()}
        return {name: field for name, field in fields.items() if self.only is None or name in self.only}

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.fields),)

    def adapted(self, wanted: Mapping[str, Field]) -> Brought:
        check_as_wanted(self.name, self.fields, wanted)
        return type(self)(self.data, tuple(wanted))

    def _first(self) -> Any:
        if not len(self.data):
            raise ValueError(f"{self.name} has no items, so nothing tells what they are")
        return self.data[0]


class BroughtStream(Brought):
    """The same of one that can only be iterated."""

    __len__ = None  # type: ignore[assignment]

    def _first(self) -> Any:
        for item in self.data:
            return item
        raise ValueError(f"{self.name} has no items, so nothing tells what they are")


class Together(Rows):
    """Fields of several sources that are drawn together, row by row: pairs.

    fields: of each new field, the source and what it is called there. The sources have as many rows each. A row of
    which one value cannot be used is replaced by the next that can.
    Raises ValueError for sources of unequal length, without rows, or without that field.
    """

    def __init__(self, name: str, fields: Mapping[str, tuple[Any, str]]) -> None:
        self.name = name
        self._of: dict[str, tuple[Any, str]] = {
            key: (source_of(source), there) for key, (source, there) in fields.items()
        }
        for source, _ in self._of.values():
            if not isinstance(source, Rows | Brought) and not hasattr(source, "tensors"):
                raise TypeError(f"{name}: {source.name} can only be read from its beginning, and has no rows to pair")
        _check_alike(name, {key: len(source) for key, (source, _) in self._of.items()})
        if all(hasattr(source, "tensors") for source, _ in self._of.values()) and self.fields:
            self.tensors = {key: source.tensors[there] for key, (source, there) in self._of.items()}
            self._check_wholes()

    def __len__(self) -> int:
        return len(next(iter(self._of.values()))[0])

    @cached_property
    def fields(self) -> dict[str, Field]:
        for source, there in self._of.values():
            if there not in source.fields:
                raise ValueError(f"{source.name} has no {there!r}; it has {listed(source.fields)}")
        return {key: source.fields[there] for key, (source, there) in self._of.items()}

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.fields),)

    def adapted(self, wanted: Mapping[str, Field]) -> Together:
        check_wanted(printable(self.name), self.fields, wanted)
        changed = {}
        for key, field in wanted.items():
            source, there = self._of[key]
            changed[key] = (source.adapted({there: field}), there)
        return Together(self.name, changed)

    def resize(self, resolution: Size, fit: str = "crop") -> Together:
        """The same rows with all images at resolution x resolution, or at (height, width)."""
        height, width = as_size(resolution)
        return self._with_images(lambda field: replace(field, height=height, width=width, fit=fit))

    def with_channels(self, channels: int) -> Together:
        """The same rows with all images in gray (1) or RGB (3)."""
        return self._with_images(lambda field: replace(field, channels=channels))

    def _with_images(self, change: Callable[[Images], Images]) -> Together:
        fields = self.fields
        return self.adapted({key: change(f) if isinstance(f, Images) else f for key, f in fields.items()})

    def members(self) -> Iterator[tuple[str, Any, str]]:
        """Each field, its source and what it is called there."""
        return ((key, source, there) for key, (source, there) in self._of.items())

    def row(self, index: int) -> tuple[Row, list[Note]]:
        row: Row = {}
        notes: list[Note] = []
        for key, (source, there) in self._of.items():
            values, said = _row(source, index)
            row[key] = values[there]
            notes += said
        return row, notes

    def _check_wholes(self) -> None:
        """ValueError where windows are cut of images of different size: their places would not be the same."""
        sizes = {key: tuple(self.tensors[key].shape[2:]) for key in self.windows}
        if len({*sizes.values()}) > 1:
            said = ", ".join(f"{width}x{height} of {key}" for key, (height, width) in sizes.items())
            raise ValueError(f"{self.name}: windows of one place need pictures of one size, not {said}")

    def picture_name(self, index: int) -> str:
        source, _ = next(iter(self._of.values()))
        return source.picture_name(index) if isinstance(source, Rows) else f"row {index}"

    def said(self) -> list[str]:
        """A line for each thing that is left out or becomes other than it is."""
        return [line for source, _ in self._of.values() if hasattr(source, "said") for line in source.said()]


class Apart:
    """Sources whose rows have nothing to do with one another, such as two domains: each is a group of its own.

    parts: sources of one group each, whose fields have different names.   Raises ValueError for a field that two have.
    """

    def __init__(self, name: str, parts: Sequence[Any]) -> None:
        self.name = name
        self.parts: list[Any] = [source_of(part) for part in parts]
        for part in self.parts:
            if len(parts_of(part)) > 1:
                raise ValueError(f"{name}: {part.name} has several groups, not one: give its parts")

    def __len__(self) -> int:
        """Rows of the longest."""
        return max(map(len, self.parts))

    @cached_property
    def fields(self) -> dict[str, Field]:
        fields: dict[str, Field] = {}
        for part in self.parts:
            if twice := set(fields) & set(part.fields):
                raise ValueError(f"{self.name}: two parts have {', '.join(sorted(twice))}: give each a name of its own")
            fields |= part.fields
        return fields

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(part.fields) for part in self.parts)

    def adapted(self, wanted: Mapping[str, Field]) -> Source:
        check_wanted(printable(self.name), self.fields, wanted)
        changed = []
        for part in self.parts:
            if own := {name: field for name, field in wanted.items() if name in part.fields}:
                changed.append(part.adapted(own))
        return Apart(self.name, changed)


def check_as_wanted(name: str, have: Mapping[str, Field], wanted: Mapping[str, Field]) -> None:
    """ValueError unless a data set that nobody can change has each wanted field as it is wanted."""
    check_wanted(name, have, wanted)
    for key, field in wanted.items():
        if not isinstance(field, Labels) and field != have[key]:
            raise ValueError(f"{key!r} of {name} must be {field}, not {have[key]}: change it in your data set")


def _check_alike(name: str, lengths: Mapping[str, int]) -> None:
    if not lengths:
        raise ValueError(f"{name} has no field: give at least one")
    said = ", ".join(f"{length} of {field!r}" for field, length in lengths.items())
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name}: fields that are drawn together need as many rows each, not {said}")


def _row(source: Any, index: int) -> tuple[Row, list[Note]]:
    if hasattr(source, "tensors"):
        return {name: values[index] for name, values in source.tensors.items()}, []
    if isinstance(source, Rows):
        try:
            return source.row(index)
        except Unusable as reason:
            reason.picture = reason.picture or printable(source.picture_name(index))
            raise
    row = row_of(source.data[index], f"item {index} of {source.name}")
    if isinstance(row, Exception):
        raise row
    return row, []


def _checked(values: Tensor, name: str) -> Tensor:
    vector = isinstance(values, Tensor) and values.dim() == 2 and values.is_floating_point()
    whole = isinstance(values, Tensor) and values.dim() in (1, 2) and values.dtype == torch.int64
    if name != "image" and (vector or whole):
        return values.float() if vector else values
    return checked_images(values, "the source" if name == "image" else f"{name} of the source")


def _field(values: Tensor, classes: tuple[str, ...]) -> Field:
    if values.dim() == 4:
        channels, height, width = values.shape[1:]
        return Images(channels, height, width)
    if values.dim() == 1:
        return Labels(classes)
    return Vectors(values.shape[1]) if values.is_floating_point() else Texts(values.shape[1])
