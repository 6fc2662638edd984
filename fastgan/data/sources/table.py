"""Tables that say which pictures there are and what belongs to them: metadata.csv, .jsonl, .parquet, captions.csv."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastgan.data.problems import NAMED, examples, printable

CAPTIONS = "captions.csv"
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
TABLES = (CAPTIONS, *METADATA)  # the first that is there is taken

FILE_COLUMNS = ("file", "file_name", "filename", "image")
OF_A_FIELD = "_file_name"  # ends the names of columns of several pictures a row: source_file_name
TEXT_COLUMNS = ("caption", "text")
LABEL_COLUMNS = ("label", "class")


class Columns(NamedTuple):
    files: dict[str, str]  # the columns of pictures, by the names of their fields
    text: str | None
    label: str | None


class Table:
    """What a table says: of each row its pictures, by field, its text and its label.

    A row whose pictures are not all there is left out and named. What is no table that can be used is a ValueError:
    columns that are missing, a row with too few of them, a file outside the folder, a row twice. In captions.csv, which
    is older, a row may stand twice, and a file outside counts as missing.
    exact: take a name in the other Unicode form, such as macOS writes, for another name.
    """

    def __init__(self, path: Path, paths: Iterable[str], remarks: list[str], *, exact: bool = False) -> None:
        self.files: dict[str, list[str]] = {}
        self.texts: list[str] = []
        self.labels: list[str] = []
        self._where = printable(str(path))
        self._strict = path.name != CAPTIONS
        self._known = {name.replace(os.sep, "/"): name for name in paths}
        self._composed = {} if exact else {unicodedata.normalize("NFC", name): name for name in self._known}
        self._otherwise: list[str] = []  # names that are those of pictures in the other form
        header, rows = _read(path, self._where, self._strict)
        columns = columns_of(header, self._where, caption=not self._strict)
        self.files = {field: [] for field in columns.files}
        missing: list[str] = []
        seen: dict[tuple[str, ...], int] = {}
        for line, row in rows:
            if self._strict and (absent := [name for name in columns.files.values() if not row.get(name)]):
                raise ValueError(f"{self._where} line {line} has no {absent[0]}: give every row its files")
            names = [self._inside(row.get(column), line) for column in columns.files.values()]
            found = [self._picture(name) for name in names]
            if None in found:
                missing.append(f"{self._where} line {line}: no picture {printable(names[found.index(None)])}, left out")
                continue
            text = str(row.get(columns.text) or "").strip() if columns.text else ""
            if self._strict and (before := seen.setdefault((*names, text), line)) != line:
                raise ValueError(f"{self._where} line {line} says what line {before} says: remove one of them")
            for field, picture in zip(self.files, found):
                self.files[field].append(str(picture))
            self.texts.extend([text] if columns.text else [])
            self.labels.extend([self._label(row, columns.label, line)] if columns.label else [])
        if not any(self.files.values()):
            raise ValueError(
                f"{self._where} names no picture that is there: its files are relative to the folder it is in"
            )
        self._say(missing, remarks)

    def _inside(self, name: Any, line: int) -> str:
        """The path as the folder has it. Raises ValueError for one that leaves the folder."""
        given = str(name or "").strip().replace("\\", "/")
        path = os.path.normpath(given).replace(os.sep, "/")
        if self._strict and (path.startswith(("/", "../")) or path == ".." or path[1:2] == ":"):
            raise ValueError(
                f"{self._where} line {line}: {printable(repr(given))} leaves the folder: name files below it, relative "
                f"to it"
            )
        return path

    def _picture(self, name: str) -> str | None:
        if name in self._known:
            return self._known[name]
        other = self._composed.get(unicodedata.normalize("NFC", name))
        if other is None:
            return None
        self._otherwise.append(name)
        return self._known[other]

    def _label(self, row: Mapping[str, Any], column: str, line: int) -> str:
        label = "" if row.get(column) is None else str(row[column]).strip()
        if not label:
            raise ValueError(f"{self._where} line {line}: the {column} is empty: give every one")
        return label

    def _say(self, missing: list[str], remarks: list[str]) -> None:
        remarks.extend(missing[:NAMED])
        if len(missing) > NAMED:
            remarks.append(f"{self._where}: {len(missing)} pictures that it names are missing")
        if self._otherwise:
            remarks.append(
                f"{self._where}: {len(self._otherwise)} names are those of pictures in the other Unicode form only, "
                f"and are taken for them: {examples(self._otherwise)}"
            )
        listed = {name for files in self.files.values() for name in files}
        if unlisted := len(self._known) - len(listed):
            remarks.append(f"{self._where} does not list {unlisted} of {len(self._known)} pictures, which are left out")


def table_in(root: str, names: Sequence[str] = TABLES) -> Path | None:
    """The table of a folder."""
    return next((path for name in names if (path := Path(root, name)).is_file()), None)


def columns_of(header: Sequence[str], where: str, *, caption: bool) -> Columns:
    """What the columns hold. Raises ValueError where none names pictures.

    caption: a column of texts must be there, too.
    """
    names = {(name or "").strip().lower(): name for name in reversed(header)}
    file, text, label = (
        next((names[choice] for choice in choices if choice in names), None)
        for choices in (FILE_COLUMNS, TEXT_COLUMNS, LABEL_COLUMNS)
    )
    several = {
        name.strip().lower().removesuffix(OF_A_FIELD): name
        for name in header
        if name and name.strip().lower().endswith(OF_A_FIELD)
    }
    files = several or ({"image": file} if file else {})
    if not files or (caption and text is None):
        accepted = "file and caption (and label, if there are any)" if caption else (
            f"file_name, or several that end in {OF_A_FIELD} (and text and label, if there are any)"
        )  # fmt: skip
        raise ValueError(
            f"{where} must begin with a line that names the columns {accepted}, not "
            f"{printable(', '.join(str(name) for name in header)) or 'nothing'}"
        )
    return Columns(files, text, label)


def _read(path: Path, where: str, strict: bool) -> tuple[Sequence[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    """The names of the columns, and the rows with the numbers of their lines."""
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(_text(path), newline=""), skipinitialspace=True)
        try:
            header = rows.fieldnames or ()
        except csv.Error as error:
            raise _no_csv(where, 1, error) from None
        return header, _csv(rows, where, strict)
    if path.suffix == ".jsonl":
        lines = [(line, text) for line, text in enumerate(_text(path).splitlines(), 1) if text.strip()]
        parsed = [(line, _json(text, f"{where} line {line}")) for line, text in lines]
        return list(dict.fromkeys(name for _, row in parsed for name in row)), iter(parsed)
    try:
        from pyarrow import lib, parquet
    except ImportError as error:
        raise ImportError(f"{where} is read with pyarrow, which is missing ({error}): pip install pyarrow") from error
    try:
        table = parquet.read_table(path)
    except (lib.ArrowInvalid, OSError) as error:
        raise ValueError(f"{where} is not parquet ({str(error).splitlines()[0]}): mend or remove it") from None
    return table.column_names, iter(enumerate(table.to_pylist(), 1))


def _csv(rows: csv.DictReader[str], where: str, strict: bool) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """strict: each row has as many columns as the first."""
    count = len(rows.fieldnames or ())
    try:
        for row in rows:
            given = sum(value is not None for value in row.values()) + len(row.get(None) or ()) - (None in row)
            if strict and given != count:
                raise ValueError(
                    f"{where} line {rows.line_num} has {given} columns, the first line {count}: give every row as "
                    f"many; a text with a comma stands in quotes"
                )
            yield rows.line_num, row
    except csv.Error as error:
        raise _no_csv(where, rows.line_num, error) from None


def _no_csv(where: str, line: int, error: Exception) -> ValueError:
    return ValueError(f"{where} line {line} is not CSV ({error}): mend or remove it")


def _json(text: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}): mend or remove it") from None
    if not isinstance(row, dict):
        raise ValueError(f'{where} must be an object such as {{"file_name": ...}}, not {type(row).__name__}')
    return row


def _text(path: Path) -> str:
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")
