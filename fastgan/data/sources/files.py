"""Pictures of a folder by their paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np

from fastgan.data.decode import Header, Unusable
from fastgan.data.lazy import LazyPictures, header_of
from fastgan.data.scan import NOT_THE_PICTURES, natural
from fastgan.data.sources.sides import stem_of

# Bytes of a file that is read at once: a decoder takes a file in many small pieces.
SMALL = 16 << 20


class Files(LazyPictures):
    """The pictures at `paths` below `root`, in that order.

    labels: the name of the class of each, or none.   texts: a text each, or none.   beside: of each picture the path of
    the file that holds its text, "" where there is none; or none.   side: of which side of a data set they are, "a" or
    "b", whose folder does not belong to their `stems`.
    """

    def __init__(
        self,
        name: str,
        root: str,
        paths: Sequence[str],
        *,
        labels: Sequence[str] = (),
        texts: Sequence[str] = (),
        beside: Sequence[str] = (),
        side: str = "",
    ) -> None:
        super().__init__(name, sorted(set(labels), key=natural), None, None)
        self._root = root
        self._side = side
        self._paths = Packed(paths)
        self._texts = tuple(texts)
        self._beside = Packed(beside) if any(beside) else ()
        self._label_by(labels)

    def _label_by(self, labels: Sequence[str]) -> None:
        position = {name: i for i, name in enumerate(self.classes)}
        self._labels = np.array([position[name] for name in labels], np.int64) if labels else None

    def take(self, rows: Sequence[int]) -> Any:
        """Those pictures alone, in that order, of the same classes."""
        other = self._changed(
            _paths=Packed([self._paths[row] for row in rows]),
            _labels=None if self._labels is None else self._labels[list(rows)],
            _texts=tuple(self._texts[row] for row in rows) if self._texts else (),
            _beside=Packed([self._beside[row] for row in rows]) if self._beside else (),
        )
        for known in ("survey", "captions", "stems"):
            other.__dict__.pop(known, None)
        return other

    @cached_property
    def captions(self) -> tuple[str, ...]:  # type: ignore[override]
        """One text a picture, "" where there is none; or empty."""
        if not self._beside:
            return tuple(self._texts)
        return tuple(_text_in(os.path.join(self._root, path)) if path else "" for path in self._beside)

    @property
    def captioned(self) -> bool:
        return bool(self._texts or self._beside)

    @cached_property
    def stems(self) -> list[str]:
        return [stem_of(self._paths[row], self._side) for row in range(len(self))]

    @property
    def half_taken(self) -> str:
        """Which half of each picture this is, left or right; "" for the whole."""
        return self._half.side if self._half else ""

    def listing(self) -> list[tuple[str, int | None]]:
        """Path, with slashes, and label of every picture, in order."""
        return [(self._paths[i].replace(os.sep, "/"), self._label(i)) for i in range(len(self))]

    def __len__(self) -> int:
        return len(self._paths)

    def _label(self, index: int) -> int | None:
        return None if self._labels is None else int(self._labels[index])

    def picture_name(self, index: int) -> str:
        return self._paths[index]

    def _open(self, index: int) -> BinaryIO | bytes:
        return open_regular(os.path.join(self._root, self._paths[index]))

    def _header(self, index: int) -> Header | Unusable:
        return header_of(lambda: open_regular(os.path.join(self._root, self._paths[index]), small=0), self._half)


class Packed(Sequence[str]):
    """Strings in one block of memory: millions of objects would be copied to every worker as it counts references."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [os.fsencode(text) for text in texts]
        self._ends = np.cumsum([len(text) for text in encoded])
        self._bytes = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._bytes[start : self._ends[index]])


def open_regular(path: str, small: int = SMALL) -> BinaryIO | bytes:
    """A file, its content where it has at most `small` bytes.

    Raises Unusable for what is no regular file or cannot be read. Never waits for the writer of a pipe.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno in NOT_THE_PICTURES:
            raise
        raise Unusable(os.strerror(error.errno or 0).lower()) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("not a regular file")
        file = open(descriptor, "rb")  # noqa: SIM115 - large ones are closed by the caller
    except BaseException:
        os.close(descriptor)
        raise
    if status.st_size > small:
        return file
    with file:
        return file.read()


def _text_in(path: str) -> str:
    try:
        content = open_regular(path)
    except Unusable:
        return ""
    if not isinstance(content, bytes):  # no text of a picture has so many bytes
        content.close()
        return ""
    return " ".join(content.decode("utf-8-sig", "replace").split())
