"""What a folder holds: its pictures, their classes and texts, told from names and tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastgan.data.problems import examples, printable
from fastgan.data.scan import PARTS, first_folders, parts_among, scan, without_pictures
from fastgan.data.sources.parts import TRAIN, named, rows_of, word_of
from fastgan.data.sources.sides import sides_of, stems_of
from fastgan.data.sources.table import CAPTIONS, TABLES, Table, table_in


@dataclass
class Contents:
    """paths: of the pictures, below root.   labels, texts, beside: of each picture its class, its text, the path of the
    file with its text; or empty.   columns: of a table with several pictures a row, their paths by field, else empty;
    labels and texts are the rows' then.   found, scanned: all pictures below the folder, whatever part was asked for,
    and what is to be said of its files.   entered: a folder named like a part became the root."""

    root: str
    found: Sequence[str]
    paths: Sequence[str]
    remarks: list[str]
    left_out: dict[str, int]
    scanned: list[str]
    entered: bool = False
    labels: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)


def contents(root: str, part: str | None, rules: int) -> Contents:
    """What lies below `root`, or of that the part "train" or "test". Raises ValueError as `Folder` says."""
    found = scan(root, runs=rules == 1)
    if not found.paths:
        raise without_pictures(root, found)
    held = Contents(root, found.paths, found.paths, found.remarks, found.left_out, list(found.remarks))
    tables = TABLES if rules > 2 else (CAPTIONS,)
    below = ""
    if rules > 1 and not table_in(root, tables):
        below = _enter_part(held, part)
    folders = _classes_of(held)
    if table := table_in(held.root, tables):
        _by_table(held, table, folders, exact=rules == 1)
    else:
        held.labels = folders
        texts = found.texts if rules > 2 else {}
        held.beside = [_beside(path, below, texts) for path in held.paths] if texts else []
    held.entered = bool(below)
    if part and not below:
        _keep(held, _rows_of_part(held, part))
    return held


def _enter_part(held: Contents, part: str | None) -> str:
    """Where the first folders are parts of a data set, one of them becomes the root; its name, "" where it does not."""
    tops = first_folders(held.paths)
    if not all(word_of(top) in PARTS for top in tops):
        return ""
    folder = named(tops, part or TRAIN)
    if folder is None:
        if part:
            raise _no_folder(held, part, tops)
        return ""
    inside = [path.partition(os.sep)[2] for path in held.paths if path.startswith(folder + os.sep)]
    if (others := sorted(tops - {folder})) and not part:
        left = len(held.paths) - len(inside)
        held.left_out["other parts"] = left
        held.remarks.append(
            f"{printable(held.root)}: {examples([folder, *others])} are parts of a data set, not classes: taken are "
            f"the {len(inside)} pictures of {folder}, left out {left} others; for these, give their folder, such as "
            f"{printable(os.path.join(held.root, others[0]))}"
        )
    held.root, held.paths = os.path.join(held.root, folder), inside
    return folder


def _classes_of(held: Contents) -> list[str]:
    """The first folder of each path; empty where pictures lie at the root."""
    at_root = sum(os.sep not in path for path in held.paths)
    if not at_root:
        if parts := parts_among(first_folders(held.paths)):
            held.remarks.append(
                f"{printable(held.root)}: the folders {examples(sorted(parts))} are taken as classes; to train on one "
                f"of them alone, give its folder"
            )
        return [path.split(os.sep, 1)[0] for path in held.paths]
    if at_root < len(held.paths):
        held.remarks.append(
            f"{printable(held.root)}: {at_root} pictures lie beside the folders, so the folders are not taken as "
            f"classes"
        )
    return []


def _by_table(held: Contents, path: Path, folders: Sequence[str], *, exact: bool) -> None:
    """What a table says of the pictures; what it does not list is left out, but where its rows are of several."""
    table = Table(path, held.paths, held.remarks, exact=exact)
    held.texts = table.texts
    if list(table.files) == ["image"]:
        classes = dict(zip(held.paths, folders)) if folders else {}
        held.paths = table.files["image"]
        held.labels = table.labels or [classes[path] for path in held.paths if folders]
    else:
        held.columns, held.labels = table.files, table.labels


def _beside(path: str, below: str, texts: dict[str, str]) -> str:
    """The path of the text of a picture, both below the folder of the part; "" where there is none."""
    text = texts.get(os.path.join(below, os.path.splitext(path)[0]), "")
    return os.path.relpath(text, below) if text and below else text


def _rows_of_part(held: Contents, part: str) -> list[int]:
    """The rows of a part: as folders say, else by the stems of the pictures."""
    paths = next(iter(held.columns.values()), held.paths)
    tops = first_folders(paths)
    if all(word_of(top) in PARTS for top in tops):
        folder = named(tops, part)
        if folder is None:
            raise _no_folder(held, part, tops)
        return [row for row, path in enumerate(paths) if path.startswith(folder + os.sep)]
    sides = sides_of(paths, part)
    if sides and sides.named:
        inside = {*sides.a, *sides.b}
        return [row for row, path in enumerate(paths) if path in inside]
    return rows_of(stems_of(paths, sides), part, printable(held.root))


def _keep(held: Contents, rows: Sequence[int]) -> None:
    """Those rows alone."""
    if held.columns:
        held.columns = {name: [paths[row] for row in rows] for name, paths in held.columns.items()}
        held.paths = list(dict.fromkeys(path for paths in held.columns.values() for path in paths))
    else:
        held.paths = [held.paths[row] for row in rows]
    held.labels, held.texts, held.beside = (
        [values[row] for row in rows] if values else [] for values in (held.labels, held.texts, held.beside)
    )


def _no_folder(held: Contents, part: str, tops: set[str]) -> ValueError:
    return ValueError(f"{printable(held.root)} has no folder of the part {part}, only {examples(sorted(tops))}")
