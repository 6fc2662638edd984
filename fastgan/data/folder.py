"""A folder of pictures: class folders give labels, `captions.csv` gives captions."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastgan.data.decode import Header, Unusable
from fastgan.data.lazy import LazyPictures, header_of
from fastgan.data.problems import examples, printable
from fastgan.data.scan import (
    NOT_THE_PICTURES,
    first_folders,
    natural,
    parts_among,
    scan,
    training_part,
    without_pictures,
)
from fastgan.data.sources.table import CAPTIONS, Table

# Bytes of a file that is read at once: a decoder takes a file in many small pieces.
SMALL = 16 << 20

RULES = 2  # by which pictures and classes are found; a run goes on by those that it began with


class Folder(LazyPictures):
    """The pictures below `root`, sorted by their relative paths; they are told by content, found by extension.

    root/CLASS/**/*.jpg: the first folder is the class, unless pictures lie at the root too; classes are in natural
    order, 2 before 10. Where the first folders are train, test and the like, root/train is taken for the root.
    Hidden files and folders are ignored, symbolic links followed, runs of FastGAN left out.
    root/captions.csv: see `Table`; what it does not list is left out.
    rules: 1 for those of runs whose checkpoint names no others: every first folder is a class, in the order of their
        characters, and what runs have drawn is data, too.
    Raises ValueError where there is no picture or captions.csv cannot be used.
    """

    def __init__(self, root: str, rules: int = RULES) -> None:
        super().__init__(root, (), None, None)
        self.rules = rules
        self._root = root
        paths, self.remarks, self.left_out = found = scan(root, runs=rules == 1)
        if not paths:
            raise without_pictures(root, found)
        if rules > 1 and not Path(root, CAPTIONS).is_file() and (part := training_part(paths)):
            paths = self._only(part, paths)
        names = self._classes_of(paths)
        table = Path(self._root, CAPTIONS)
        if table.is_file():
            rows = Table(table, paths, self.remarks, exact=rules == 1)
            folders = dict(zip(paths, names)) if names else {}
            paths, self.captions = rows.files["image"], tuple(rows.texts)
            names = rows.labels or [folders[path] for path in paths if folders]
        self.classes = tuple(sorted(set(names), key=natural if rules > 1 else None))
        self._labels = _indices(names, self.classes)
        self._paths = _Packed(paths)

    def _only(self, part: str, paths: Sequence[str]) -> list[str]:
        """The pictures of one folder, which becomes the root."""
        inside = [path.partition(os.sep)[2] for path in paths if path.startswith(part + os.sep)]
        others = sorted(first_folders(paths) - {part})
        if others:
            self.left_out["other parts"] = len(paths) - len(inside)
            self.remarks.append(
                f"{printable(self._root)}: {examples([part, *others])} are parts of a data set, not classes: taken are "
                f"the {len(inside)} pictures of {part}, left out {len(paths) - len(inside)} others; for these, give "
                f"their folder, such as {printable(os.path.join(self._root, others[0]))}"
            )
        self._root = os.path.join(self._root, part)
        return inside

    def _classes_of(self, paths: Sequence[str]) -> list[str]:
        """The first folder of each path; empty where pictures lie at the root."""
        at_root = sum(os.sep not in path for path in paths)
        if not at_root:
            if parts := parts_among(first_folders(paths)):
                self.remarks.append(
                    f"{printable(self._root)}: the folders {examples(sorted(parts))} are taken as classes; to train on "
                    f"one of them alone, give its folder"
                )
            return [path.split(os.sep, 1)[0] for path in paths]
        if at_root < len(paths):
            self.remarks.append(
                f"{printable(self._root)}: {at_root} pictures lie beside the folders, so the folders are not taken as "
                f"classes"
            )
        return []

    def by_rules(self, rules: int) -> "Folder":
        """The same folder by other rules."""
        other = Folder(self.name, rules)
        return other._changed(
            _resolution=self._resolution, _channels=self._channels, _white=self._white, _kept=self._kept
        )

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
        return header_of(lambda: open_regular(os.path.join(self._root, self._paths[index]), small=0))


class _Packed:
    """Strings in one block of memory: millions of objects would be copied to every worker as it counts references."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [os.fsencode(text) for text in texts]
        self._ends = np.cumsum([len(text) for text in encoded])
        self._bytes = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._bytes[start : self._ends[index]])


def _indices(names: Sequence[str], classes: Sequence[str]) -> np.ndarray | None:
    position = {name: i for i, name in enumerate(classes)}
    return np.array([position[name] for name in names], np.int64) if names else None


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
