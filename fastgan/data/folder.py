"""A folder of pictures: class folders give labels, `captions.csv` gives captions."""

import csv
import errno
import io
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from fastgan.data.decode import EXTENSIONS, Unusable
from fastgan.data.lazy import LazyPictures
from fastgan.data.problems import NAMED, printable

CAPTIONS = "captions.csv"
FILE_COLUMNS = ("file", "file_name", "filename", "image")
CAPTION_COLUMNS = ("caption", "text")
LABEL_COLUMNS = ("label", "class")

# Bytes of a file that is read at once: a decoder takes a file in many small pieces.
SMALL = 16 << 20

# An error of the process or the machine, not of the picture.
NOT_THE_PICTURES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Folder(LazyPictures):
    """The pictures below `root`, sorted by their relative paths; they are told by content, found by extension.

    root/CLASS/**/*.jpg: the first folder is the class, unless pictures lie at the root too. Hidden files and folders
    are ignored, symbolic links followed. root/captions.csv: see `_Table`; what it does not list is left out.
    Raises ValueError where there is no picture or captions.csv cannot be used.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root, (), None, None)
        self._root = root
        paths, self.remarks = _scan(root)
        if not paths:
            raise ValueError(
                f"there is no picture in {printable(root)}: files of the kinds {' '.join(sorted(EXTENSIONS))} are "
                f"taken from it and from its folders"
            )
        names = self._classes_of(paths)
        table = Path(root, CAPTIONS)
        if table.is_file():
            rows = _Table(table, paths, self.remarks)
            folders = dict(zip(paths, names)) if names else {}
            paths, self.captions = rows.files, tuple(rows.captions)
            names = rows.labels or [folders[path] for path in paths if folders]
        self.classes = tuple(sorted(set(names)))
        self._labels = _indices(names, self.classes)
        self._paths = _Packed(paths)

    def _classes_of(self, paths: Sequence[str]) -> list[str]:
        """The first folder of each path; empty where pictures lie at the root."""
        at_root = sum(os.sep not in path for path in paths)
        if not at_root:
            return [path.split(os.sep, 1)[0] for path in paths]
        if at_root < len(paths):
            self.remarks.append(
                f"{printable(self._root)}: {at_root} pictures lie beside the folders, so the folders are not taken as "
                f"classes"
            )
        return []

    def __len__(self) -> int:
        return len(self._paths)

    def _label(self, index: int) -> int | None:
        return None if self._labels is None else int(self._labels[index])

    def picture_name(self, index: int) -> str:
        return self._paths[index]

    def _open(self, index: int) -> BinaryIO | bytes:
        return open_regular(os.path.join(self._root, self._paths[index]))


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


def open_regular(path: str) -> BinaryIO | bytes:
    """A file, its content where it is small. Raises Unusable for what is no regular file or cannot be read.

    Never waits for the writer of a pipe.
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
    if status.st_size > SMALL:
        return file
    with file:
        return file.read()


def _scan(root: str) -> tuple[list[str], list[str]]:
    """Relative paths of the pictures, sorted, and what was left out. Every folder is visited once, whatever links."""
    found: list[str] = []
    remarks: list[str] = []
    visited: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(os.path.join(root, folder))
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(root, folder)) as entries:
                inside = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if not folder or error.errno in NOT_THE_PICTURES:
                raise
            remarks.append(f"{printable(folder)}: {os.strerror(error.errno or 0).lower()}, left out")
            continue
        for entry in inside:
            path = os.path.join(folder, entry.name)
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                if _is(entry.is_file):
                    found.append(path)
                else:
                    remarks.append(f"{printable(path)}: not a regular file, left out")
            elif _is(entry.is_dir):
                pending.append(path)
    # By parts, so that a folder's files stay together; the bytes of the names decide, not the locale.
    return sorted(found, key=lambda path: os.fsencode(path).split(os.fsencode(os.sep))), sorted(remarks)


def _is(test: object) -> bool:
    try:
        return test()  # type: ignore[operator]
    except OSError:
        return False


class _Columns(NamedTuple):
    file: str
    caption: str
    label: str | None


class _Table:
    """captions.csv: columns file (file_name, filename, image), caption (text) and, if labels are wanted, label (class).

    UTF-8 or UTF-16 with or without a mark, else Windows-1252; a picture may have several rows.
    """

    def __init__(self, path: Path, paths: Iterable[str], remarks: list[str]) -> None:
        self.files: list[str] = []
        self.captions: list[str] = []
        self.labels: list[str] = []
        known = {path.replace(os.sep, "/"): path for path in paths}
        where = printable(str(path))
        missing = 0
        try:
            rows = csv.DictReader(io.StringIO(_text(path), newline=""))
            columns = _columns(rows.fieldnames or (), where)
            for row in rows:
                name = os.path.normpath((row[columns.file] or "").strip().replace("\\", "/")).replace(os.sep, "/")
                if name not in known:
                    missing += 1
                    if missing <= NAMED:
                        remarks.append(f"{where} line {rows.line_num}: no picture {printable(name)}, left out")
                    continue
                self.files.append(known[name])
                self.captions.append((row[columns.caption] or "").strip())
                if columns.label is not None:
                    label = (row[columns.label] or "").strip()
                    if not label:
                        raise ValueError(f"{where} line {rows.line_num}: the {columns.label} is empty: give every one")
                    self.labels.append(label)
        except csv.Error as error:
            raise ValueError(f"{where} line {rows.line_num} is not CSV ({error}): mend or remove it") from None
        if not self.files:
            raise ValueError(f"{where} names no picture that is there: its files are relative to the folder it is in")
        if missing > NAMED:
            remarks.append(f"{where}: {missing} pictures that it names are missing")
        if unlisted := len(known) - len(set(self.files)):
            remarks.append(f"{where} does not list {unlisted} of {len(known)} pictures, which are left out")


def _columns(header: Sequence[str], where: str) -> _Columns:
    names = {(name or "").strip().lower(): name for name in reversed(header)}
    file, caption, label = (
        next((names[choice] for choice in choices if choice in names), None)
        for choices in (FILE_COLUMNS, CAPTION_COLUMNS, LABEL_COLUMNS)
    )
    if file is None or caption is None:
        raise ValueError(
            f"{where} must begin with a line that names the columns file and caption (and label, if there are any), "
            f"got {printable(', '.join(header)) or 'nothing'}"
        )
    return _Columns(file, caption, label)


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
