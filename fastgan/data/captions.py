"""captions.csv: what is said about the pictures of a folder."""

import csv
import io
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastgan.data.problems import NAMED, examples, printable

FILE_COLUMNS = ("file", "file_name", "filename", "image")
CAPTION_COLUMNS = ("caption", "text")
LABEL_COLUMNS = ("label", "class")


class _Columns(NamedTuple):
    file: str
    caption: str
    label: str | None


class Table:
    """captions.csv: columns file (file_name, filename, image), caption (text) and, if labels are wanted, label (class).

    UTF-8 or UTF-16 with or without a mark, else Windows-1252; a picture may have several rows.

    exact: take a name in the other Unicode form, such as macOS writes, for another name.
    """

    def __init__(self, path: Path, paths: Iterable[str], remarks: list[str], *, exact: bool = False) -> None:
        self.files: list[str] = []
        self.captions: list[str] = []
        self.labels: list[str] = []
        known = {path.replace(os.sep, "/"): path for path in paths}
        composed = {} if exact else {unicodedata.normalize("NFC", name): path for name, path in known.items()}
        where = printable(str(path))
        missing = 0
        otherwise: list[str] = []  # names that are those of pictures in the other form
        try:
            rows = csv.DictReader(io.StringIO(_text(path), newline=""), skipinitialspace=True)
            columns = _columns(rows.fieldnames or (), where)
            for row in rows:
                name = os.path.normpath((row[columns.file] or "").strip().replace("\\", "/")).replace(os.sep, "/")
                picture = known.get(name) or composed.get(unicodedata.normalize("NFC", name))
                if picture is None:
                    missing += 1
                    if missing <= NAMED:
                        remarks.append(f"{where} line {rows.line_num}: no picture {printable(name)}, left out")
                    continue
                if name not in known:
                    otherwise.append(name)
                self.files.append(picture)
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
        if otherwise:
            remarks.append(
                f"{where}: {len(otherwise)} names are those of pictures in the other Unicode form only, and are taken "
                f"for them: {examples(otherwise)}"
            )
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
