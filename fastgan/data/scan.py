"""What lies in a folder of pictures: which files are taken, in which order, and what is left out and why."""

import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import cache, partial
from typing import NamedTuple

from PIL import features

from fastgan.data.decode import EXTENSIONS
from fastgan.data.problems import EXAMPLES, examples, printable
from fastgan.data.sources.parts import TESTING, TRAINING, word_of
from fastgan.data.sources.table import TABLES

# An error of the process or the machine, not of the picture.
NOT_THE_PICTURES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

# A directory with the first and one of the others is a run. What it draws is no data, its own least of all.
RUN, OF_A_RUN = "config.yaml", {"checkpoint.pt", "checkpoint.previous.pt", "metrics.jsonl", ".lock"}
ITS_OWN = {
    RUN,
    *OF_A_RUN,
    "checkpoint.best.pt",
    "log.txt",
    "data.json",
    "data.txt.gz",
    "evaluation.json",
    "report.html",
}
DRAWN = {"samples", "tensorboard", "training.gif", "real.png"}

# What the commands draw where no other name is given, in the directory that they are called in.
BY_COMMANDS = {"grid.png", "interpolation.png", "arithmetic.png", "projection.png"}
MARK = b"tEXtSoftware\0FastGAN"
BEGINNING = 128  # bytes of a PNG file in which that lies

TEXT = ".txt"
NO_DATA = {*TABLES, "thumbs.db", "desktop.ini"}  # files that go without saying

PARTS = {*TRAINING, *TESTING}  # folders that are parts of a data set, not classes of it


class Found(NamedTuple):
    paths: list[str]  # of the pictures, relative, sorted
    remarks: list[str]  # what was left out, a line each
    left_out: dict[str, int]  # files of kinds that are not read, by kind, and what FastGAN has drawn
    texts: dict[str, str]  # files of texts beside pictures, by the paths of both without extension


def scan(root: str, *, runs: bool = False) -> Found:
    """The pictures below `root`. Every folder is visited once, whatever links to it.

    runs: take what the runs of FastGAN below it have drawn for data, too.
    """
    found: list[str] = []
    remarks: list[str] = []
    skipped: list[str] = []  # what FastGAN has drawn, and directories of runs
    unread: Counter[str] = Counter()
    texts: dict[str, str] = {}
    visited: set[tuple[int, int]] = set()
    pending = [""]
    readable = _readable()
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
        if not runs and is_run(entry.name for entry in inside):
            skipped.append(folder or os.curdir)
            if folder:
                continue
            inside = [entry for entry in inside if entry.name not in DRAWN | ITS_OWN]
        for entry in inside:
            path = os.path.join(folder, entry.name)
            if entry.name.startswith("."):
                continue
            extension = os.path.splitext(entry.name)[1].lower()
            if extension in readable:
                if not runs and entry.name in BY_COMMANDS and _is(partial(_marked, entry.path)):
                    skipped.append(path)
                elif _is(entry.is_file):
                    found.append(path)
                else:
                    remarks.append(f"{printable(path)}: not a regular file, left out")
            elif _is(entry.is_dir):
                pending.append(path)
            elif extension == TEXT:
                texts[os.path.splitext(path)[0]] = path
            elif entry.name.lower() not in NO_DATA:
                unread[extension or "without extension"] += 1
    beside = texts.keys() & {os.path.splitext(path)[0] for path in found} if texts else set()
    if len(texts) > len(beside):
        unread[TEXT] += len(texts) - len(beside)
    if skipped:
        remarks.append(f"left out, what FastGAN has drawn: {examples(skipped)}")
    if unread:
        remarks.append(_unread(unread, len(found) + unread.total()))
    # By parts, so that a folder's files stay together; the bytes of the names decide, not the locale.
    paths = sorted(found, key=lambda path: os.fsencode(path).split(os.fsencode(os.sep)))
    left_out = {**unread, **({"drawn": len(skipped)} if skipped else {})}
    return Found(paths, sorted(remarks), left_out, {stem: texts[stem] for stem in beside})


def _marked(path: str) -> bool:
    """Whether FastGAN has written the file."""
    with open(path, "rb") as file:
        return MARK in file.read(BEGINNING)


def is_run(names: Iterable[str]) -> bool:
    """Whether a directory with these entries is that of a run."""
    names = set(names)
    return RUN in names and not OF_A_RUN.isdisjoint(names)


def without_pictures(root: str, found: Found) -> ValueError:
    files = {kind: count for kind, count in found.left_out.items() if kind != "drawn"}
    there = f", only {_kinds(files)}: convert pictures among them" if files else ""
    return ValueError(
        f"there is no picture in {printable(root)}{there}: files of the kinds {' '.join(sorted(_readable()))} are "
        f"taken from it and from its folders"
    )


def parts_among(names: Iterable[str]) -> list[str]:
    """Those of the folders or files that are called like parts of a data set, where that are several parts."""
    parts = [name for name in names if word_of(name) in PARTS]
    return parts if len({word_of(name) for name in parts}) > 1 else []


def first_folders(paths: Iterable[str]) -> set[str]:
    """The first folder of each path; "" of what lies in none."""
    return {path.partition(os.sep)[0] if os.sep in path else "" for path in paths}


def natural(name: str) -> tuple[list[str | int], bytes]:
    """A key by which 2 comes before 10, and anything that differs has a place."""
    parts: list[str | int] = list(re.split(r"(\d+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts, os.fsencode(name)


def _unread(kinds: Counter[str], files: int) -> str:
    return (
        f"{kinds.total()} of {files} files are of kinds that are not read and are left out: {_kinds(kinds)}. Convert "
        "pictures among them to JPEG or PNG, films to pictures"
    )


def _kinds(kinds: dict[str, int]) -> str:
    most = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    some = [f"{count} {printable(kind)}" for kind, count in most[: 2 * EXAMPLES]]
    rest = sum(count for _, count in most[2 * EXAMPLES :])
    return ", ".join(some + ([f"{rest} others"] if rest else []))


@cache
def _readable() -> Collection[str]:
    """The extensions of pictures; not that of AVIF where this Pillow has no decoder of it."""
    return EXTENSIONS if features.check("avif") else EXTENSIONS - {".avif"}


def _is(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError:
        return False
