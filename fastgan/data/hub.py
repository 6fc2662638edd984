"""Data sets of Hugging Face `datasets`: from the hub, saved ones, parquet and arrow files; whole or as a stream."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastgan.data.decode import Header, Unusable
from fastgan.data.items import Row
from fastgan.data.lazy import IN_A_ROW, LazyPictures, header_of
from fastgan.data.problems import Note, examples
from fastgan.data.scan import parts_among
from fastgan.data.sources.files import open_regular
from fastgan.data.sources.table import METADATA
from fastgan.data.stream import StreamPictures

TABLES = {".parquet": "parquet", ".arrow": "arrow"}
SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk writes

SURVEYED = 1000  # rows whose pictures' headers are looked at: each is read wholly
PROBED = 32  # the same of a stream

IMAGES = ("image", "img", "picture", "jpg", "png", "webp")
LABELS = ("label", "labels", "class", "cls", "fine_label")
CAPTIONS = ("caption", "text", "prompt", "txt")


def load_hub(name: str) -> "HubPictures | HubStream":
    """`hf:NAME`, `hf:NAME:CONFIG@SPLIT`, or with `hf-stream:` read as a stream; or a path of `is_table`.

    NAME: of the hub, or a path that `datasets` can load. Raises ImportError without `datasets`, ValueError or OSError
    where it cannot be loaded.
    """
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{name} is read with Hugging Face datasets, which is missing ({error}): pip install datasets"
        ) from error
    prefix, colon, rest = name.partition(":")
    known = bool(colon) and prefix in ("hf", "hf-stream")
    what, config, split = _parts(rest if known else name)
    try:
        data, remark = _loaded(what, config, split, streaming=known and prefix == "hf-stream")
    except Exception as error:
        kind = OSError if isinstance(error, OSError) else ValueError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise kind(
            f"cannot load {name}: {reason} (hf:NAME:CONFIG@SPLIT takes a name on the hub, which must be reachable, or "
            f"a path that is there)"
        ) from error
    found = _pictures(data, name)
    found.remarks += [f"{name}: {remark}"] if remark else []
    return found


def is_table(path: str) -> bool:
    """Whether a path is of parquet or arrow files, or saved by `datasets`; a metadata.parquet is not."""
    if not os.path.isdir(path):
        return Path(path).suffix in TABLES
    return any(entry in SAVED or (Path(entry).suffix in TABLES and entry not in METADATA) for entry in os.listdir(path))


def is_hugging_face(source: Any) -> bool:
    """Whether the source is a data set of `datasets` as it is loaded: one with a transform is like any other."""
    kind = type(source)
    if kind.__module__.partition(".")[0] != "datasets" or kind.__name__ not in ("Dataset", "IterableDataset"):
        return False
    return kind.__name__ == "IterableDataset" or source.format["type"] is None


def wrapped(source: Any) -> "HubPictures | HubStream":
    """The pictures of a `datasets.Dataset` or `IterableDataset`."""
    return _pictures(source, str(getattr(source.info, "dataset_name", None) or type(source).__name__))


def _pictures(data: Any, name: str) -> "HubPictures | HubStream":
    return (HubStream if type(data).__name__ == "IterableDataset" else HubPictures)(data, name)


def _parts(text: str) -> tuple[str, str | None, str]:
    if os.path.exists(text):
        return text, None, "train"
    text, _, split = text.partition("@")
    if os.path.exists(text):
        return text, None, split or "train"
    what, _, config = text.partition(":")
    return what, config or None, split or "train"


def _loaded(what: str, config: str | None, split: str, streaming: bool) -> tuple[Any, str]:
    """The data, and what is to be said of their splits."""
    from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

    folder = Path(what)
    if any((folder / file).is_file() for file in SAVED):
        saved = load_from_disk(what)
        if isinstance(saved, DatasetDict):
            if split not in saved:
                raise ValueError(f"there is no split {split}, only {', '.join(saved)}")
            return (saved[split].to_iterable_dataset() if streaming else saved[split]), _taken(split, saved)
        return (saved.to_iterable_dataset() if streaming else saved), ""
    if folder.exists() and is_table(what):
        if split != "train":
            raise ValueError(f"files have no splits, so there is no split {split}")
        files = sorted(file for file in folder.iterdir() if file.suffix in TABLES) if folder.is_dir() else [folder]
        kinds = {TABLES[file.suffix] for file in files}
        if len(kinds) > 1:
            raise ValueError(f"{what} holds parquet and arrow files: keep one kind in a folder")
        if kinds == {"arrow"} and len(files) == 1 and not streaming:
            return Dataset.from_file(str(files[0])), ""  # mapped as it is, not copied to the cache
        data_files = {split: [str(file) for file in files]}
        parts = parts_among(file.name for file in files)
        said = f"the files {examples(parts)} are taken as one data set; to train on one of them alone, give its path"
        data = load_dataset(kinds.pop(), data_files=data_files, split=split, streaming=streaming)
        return data, said if parts else ""
    data = load_dataset(what, config, split=split, streaming=streaming)
    return data, _taken(split, getattr(data.info, "splits", None) or ())


def _taken(split: str, splits: Iterable[str]) -> str:
    others = [name for name in splits if name != split]
    return f"the split {split} is taken, not {examples(others)}; hf:NAME@SPLIT takes another" if others else ""


class _Columns:
    """Which columns hold image, label and caption."""

    def __init__(self, features: Any, name: str) -> None:
        from datasets import ClassLabel, Image, Value

        images = [key for key, feature in features.items() if isinstance(feature, Image)]
        texts = [key for key, feature in features.items() if isinstance(feature, Value) and "string" in feature.dtype]
        image = _first(IMAGES, images) or _first((), images) or _first(IMAGES, list(features))
        if image is None:
            raise ValueError(f"{name} has no column of images, only {', '.join(features)}: {' or '.join(IMAGES)}")
        self.image: str = image
        named = [key for key, feature in features.items() if isinstance(feature, ClassLabel)]
        scalar = [key for key, f in features.items() if isinstance(f, Value) and ("int" in f.dtype or key in texts)]
        self.label = _first(LABELS, named) or _first((), named) or _first(LABELS, scalar)
        self.classes = tuple(features[self.label].names or ()) if self.label in named else None
        self.caption = _first(CAPTIONS, [key for key in texts if key != self.label])
        labels = [*named, *(key for key in scalar if key in LABELS)]
        self.said = [
            f"{name}: {what} are taken from the column {taken}, not from {examples(others)}; to choose otherwise, give "
            f"load the data set without it: dataset.remove_columns({taken!r})"
            for what, taken, others in (
                ("pictures", image, [key for key in images if key != image]),
                ("classes", self.label, [key for key in labels if key != self.label]),
            )
            if taken and others
        ]

    def prepared(self, data: Any) -> Any:
        """The data set with encoded images and labels alone."""
        from datasets import Image

        data = data.select_columns([self.image] + ([self.label] if self.label else []))
        return data.cast_column(self.image, Image(decode=False))

    def content(self, row: dict[str, Any]) -> BinaryIO | bytes:
        image = row[self.image] or {}
        if image.get("bytes") is not None:
            return image["bytes"]
        if not image.get("path"):
            raise Unusable("empty")
        if "://" in image["path"]:
            import fsspec

            with fsspec.open(image["path"], "rb") as file:
                return file.read()
        return open_regular(image["path"])


def _first(wanted: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column of the first wanted name, or the first of all where none is wanted."""
    return next((name for name in wanted if name in columns), None) if wanted else next(iter(columns), None)


class HubPictures(LazyPictures):
    """Rows of a `datasets.Dataset`. Labels are of a ClassLabel column, or what differs in one named label or class."""

    most_surveyed = SURVEYED

    def __init__(self, data: Any, name: str) -> None:
        self._columns = _Columns(data.features, name)
        classes = self._columns.classes
        self._index: dict[Any, int] = {}
        if classes is None and self._columns.label:
            values = sorted(value for value in data.unique(self._columns.label) if value is not None)
            self._index = {value: i for i, value in enumerate(values)}
            classes = tuple(map(str, values))
        super().__init__(name, classes or ())
        self.remarks += self._columns.said
        self._data = data
        self._rows = self._columns.prepared(data)
        if not len(self._rows):
            raise ValueError(f"{name} has no rows")

    @cached_property
    def captions(self) -> tuple[str, ...]:  # type: ignore[override]
        """One text a row, or empty."""
        column = self._columns.caption
        return tuple(text or "" for text in self._data[column]) if column else ()

    @property
    def captioned(self) -> bool:
        return self._columns.caption is not None

    def take(self, rows: Sequence[int]) -> "HubPictures":
        other = self._changed(_data=self._data.select(rows), _rows=self._rows.select(rows))
        for known in ("captions", "_labels", "survey"):
            other.__dict__.pop(known, None)
        return other

    @cached_property
    def _labels(self) -> np.ndarray:
        """The index of every row's class."""
        values = self._data.select_columns([self._columns.label])[:][self._columns.label]
        for row, value in enumerate(values):
            if value is None or (value == -1 and not self._index):  # -1 of a ClassLabel: not known
                raise ValueError(f"{self.name}: row {row} has no label: choose another split, or leave the labels out")
        return np.array([self._index.get(value, value) for value in values], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def _open(self, index: int) -> BinaryIO | bytes:
        return self._columns.content(self._rows[index])

    def _label(self, index: int) -> int | None:
        if not self._columns.label:
            return None
        return int(self._labels[index])

    def picture_name(self, index: int) -> str:
        return f"row {index}"

    def known(self, index: int) -> bytes:
        """What tells the picture of a row from others: its file, or where that lies outside, its name."""
        image = self._rows[index][self._columns.image] or {}
        return image.get("bytes") or os.path.basename(image.get("path") or "").encode()


class HubStream(StreamPictures):
    """Rows of a `datasets.IterableDataset`. Labels are of a ClassLabel column."""

    def __init__(self, data: Any, name: str) -> None:
        if data.features is None:
            data = data._resolve_features()
        self._columns = _Columns(data.features, name)
        label = self._columns.label
        if self._columns.classes is None:
            self._columns.label = None  # what the classes are is known at the end of the stream only
        super().__init__(name, self._columns.classes or ())
        self.remarks += self._columns.said
        if label and not self._columns.label:
            self.remarks.append(
                f"{name}: the column {label} gives no classes, since a stream names them in a ClassLabel column only; "
                f"without hf-stream: it does"
            )
        self._rows = self._columns.prepared(data)

    def items(self, epoch: int, skip: int, rank: int, ranks: int) -> Iterator[tuple[int, dict[str, Any]]]:
        from datasets.distributed import split_dataset_by_node

        rows = self._rows
        rows.set_epoch(epoch)
        if ranks > 1:
            # skip() of a part counts the rows of the whole, or not, depending on the shards.
            rows = islice(split_dataset_by_node(rows, rank, ranks), skip, None)
        elif skip:
            rows = rows.skip(skip)
        return enumerate(rows, skip)

    def read(self, item: tuple[int, dict[str, Any]]) -> tuple[Row, list[Note]]:
        content = self._columns.content(item[1])
        try:
            image, notes = self.picture(self.item_name(item), content)
        finally:
            if not isinstance(content, bytes):
                content.close()
        row: Row = {"image": image}
        if self._columns.label is not None and self.has("label"):
            row["label"] = item[1][self._columns.label]
        return row, notes

    def item_name(self, item: tuple[int, dict[str, Any]]) -> str:
        return f"row {item[0]} of the stream"

    def _headers(self) -> Iterable[tuple[str, Header | Unusable]]:
        found = 0
        for item in islice(self.items(0, 0, 0, 1), IN_A_ROW):
            header = header_of(lambda item=item: self._columns.content(item[1]))  # type: ignore[misc]
            found += isinstance(header, Header)
            yield self.item_name(item), header
            if found == PROBED:
                return
