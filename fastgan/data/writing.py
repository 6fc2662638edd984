"""Files that are there wholly or not at all, and places that a file can be written to."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path


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


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whoever reads or writes it meanwhile. OSError, naming the file, if it cannot be."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"could not write it ({error.strerror})", str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
