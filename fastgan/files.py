"""Files that are there wholly or not at all, and places that a file can be written to."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def check_file(path: str | os.PathLike[str], *suffixes: str, what: str = "--out") -> Path:
    """The path of a file to be written, before anything is computed. `suffixes`: those accepted, none: all.

    ValueError for another suffix, IsADirectoryError for a directory, FileNotFoundError where there is no directory to
    hold it, PermissionError where that cannot be written to.
    """
    name, path = os.fspath(path), Path(path)
    if names_folder(name):
        raise IsADirectoryError(f"{what} must be a file, and {name!r} is a directory")
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"{what} must be a file that ends in {any_of(suffixes)}, not {name!r}")
    check_folder(path.parent, path)
    return path


def names_folder(name: str) -> bool:
    """Whether what a user wrote is a directory: one that exists, or with a slash at its end."""
    return name.endswith(("/", os.sep)) or Path(name).is_dir()


def any_of(suffixes: Sequence[str]) -> str:
    """ ".a, .b or .c" """
    return " or ".join(filter(None, [", ".join(suffixes[:-1]), suffixes[-1]]))


def check_folder(folder: Path, path: Path) -> None:
    """FileNotFoundError or PermissionError if `path` cannot be made in `folder`."""
    if not folder.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no directory {folder}, create it first")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(f"cannot write {path}: {folder} cannot be written to ({error.strerror})") from None


@contextmanager
def replacing(path: Path, *, alone: bool = False, durable: bool = False) -> Iterator[BinaryIO]:
    """A file to be written, which takes the place of `path` in one step when the block ends. Killed at any instant, or
    left by an exception, `path` is what it was.

    alone: nobody else writes to `path` meanwhile: what a kill leaves behind is overwritten the next time.
    durable: it survives a loss of power, too.
    """
    # Not tempfile: its files are readable by their owner alone, and the mode would survive the rename.
    temporary = path.with_name(f".{path.name}.{'tmp' if alone else secrets.token_hex(4)}")
    try:
        with temporary.open("wb" if alone else "xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in it survive a loss of power; on POSIX, directories are synced like files."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, content: bytes, *, alone: bool = False) -> None:
    """Write `content` to `path` as `replacing` does. OSError, naming the file, if it cannot be."""
    try:
        with replacing(path, alone=alone) as file:
            file.write(content)
    except OSError as error:
        raise OSError(error.errno, f"could not write it ({error.strerror})", str(path)) from error
