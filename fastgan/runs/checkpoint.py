"""Checkpoint files: atomic, checked, never unpickled beyond tensors and plain containers.

A checkpoint is what `torch.save` writes, a zip archive, with the SHA-256 of that archive as the archive's comment:
`torch.load(path, weights_only=True)` and `unzip` read it as it is, and every byte of it is checked before it is used.
Beside `checkpoint.pt` lie the one before it, `checkpoint.previous.pt`, and the best so far, `checkpoint.best.pt`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import struct
from pathlib import Path
from typing import IO, Any

import torch

from fastgan.files import replacing, sync_folder

FORMAT = 3
READ = (2, 3)  # formats
_PREFIX = b"sha256:"
_COMMENT = len(_PREFIX) + 64  # bytes


class CorruptCheckpoint(ValueError):
    """The file is not what was written; the message names the last good one."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text and plain containers of them). Killed at any instant, `path` holds either
    the old or the new state in full. OSError if it cannot be written; the old one stays."""
    try:
        with replacing(path, alone=True, durable=True) as file:
            hashed = _HashedFile(file)
            try:
                torch.save({"format": FORMAT, **state}, hashed)  # type: ignore[arg-type]
            except RuntimeError as error:  # how torch reports a failed write; the reason lies beneath
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            # The archive ends with the length of its comment, two bytes, zero so far.
            file.seek(-2, os.SEEK_END)
            file.write(struct.pack("<H", _COMMENT) + _PREFIX + hashed.sha.hexdigest().encode())
            if path.exists():
                _keep(path)
    except OSError as error:
        if not path.parent.is_dir():
            reason = "could not write the checkpoint: its directory was deleted or moved meanwhile"
        else:
            reason = f"could not write the checkpoint ({error.strerror}); the one before stays"
        raise OSError(error.errno, reason, str(path)) from error


def load(path: Path) -> dict[str, Any]:
    """The state saved at `path`, tensors on the CPU. FileNotFoundError if there is none, CorruptCheckpoint if a byte
    of it changed."""
    other = previous(path)
    if not path.exists() and other.exists():
        path = other  # killed between the two renames of a file system without hard links
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    damage = _damage(path)
    if damage is None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise CorruptCheckpoint(f"{path} does not hold tensors and plain containers: refused") from error
        if state.get("format") in READ:
            return state
        raise ValueError(
            f"{path} must have checkpoint format {' or '.join(map(str, READ))}, as this version of FastGAN reads them, "
            f"not {state.get('format')}: go on with the version that wrote it"
        )
    message = f"{path} is corrupt: {damage}."
    if path != other and other.exists() and _damage(other) is None:
        raise CorruptCheckpoint(f"{message} The last good one is {other}; to go on from it: mv {other} {path}")
    raise CorruptCheckpoint(f"{message} There is no good one beside it")


def previous(path: Path) -> Path:
    """Where the checkpoint before `path` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def best(path: Path) -> Path:
    """Where the best checkpoint so far is kept."""
    return path.with_name(f"{path.stem}.best{path.suffix}")


def keep_as_best(path: Path) -> None:
    """The checkpoint at `path` is the best so far. OSError if that cannot be kept."""
    try:
        _link(path, best(path))
    except OSError:  # no hard links here
        with open(path, "rb") as file, replacing(best(path), alone=True) as copy:
            shutil.copyfileobj(file, copy)
    sync_folder(path.parent)


def identity(path: Path) -> bytes | None:
    """What tells this checkpoint from every other one; None if there is none. It reads no more than the file's end."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _COMMENT))
            return file.read()
    except FileNotFoundError:
        return None


def _keep(path: Path) -> None:
    """Keep the file at `path` as the previous one, without an instant in which `path` is missing."""
    try:
        _link(path, previous(path))
    except OSError:  # no hard links here
        os.replace(path, previous(path))


def _link(path: Path, other: Path) -> None:
    """Make `other` the same file as `path`, in one step."""
    link = path.with_name(f".{path.name}.link")
    link.unlink(missing_ok=True)
    os.link(path, link)
    os.replace(link, other)


def _damage(path: Path) -> str | None:
    """What is wrong with the file, or None."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        archive = os.fstat(file.fileno()).st_size - _COMMENT - 2
        if archive <= 0:
            return "it is truncated"
        remaining = archive
        while remaining and (block := file.read(min(remaining, 1 << 20))):
            sha.update(block)
            remaining -= len(block)
        tail = file.read()
    sha.update(b"\0\0")
    if not tail[2:].startswith(_PREFIX):
        return "it is truncated, or not a checkpoint"
    if tail != struct.pack("<H", _COMMENT) + _PREFIX + sha.hexdigest().encode():
        return "its SHA-256 is not the one it was written with"
    return None


class _HashedFile:
    """What torch.save needs of a file, hashing what goes by."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()
