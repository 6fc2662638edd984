"""Rows that are drawn when they are first asked for, and kept in the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from fastgan.files import replacing
from fastgan.tuning.store import folder

Rows = dict[str, Tensor]


def cached(name: str, draw: Callable[[], Rows]) -> Rows:
    """What `draw` gives, from the cache or drawn into it: once, whoever else asks meanwhile.

    name: of the file; another one, as of another version, is drawn anew.
    """
    from filelock import FileLock  # with data alone that are drawn

    file = folder() / f"{name}.npz"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if (found := _read(file)) is None:
                found = draw()
                arrays: dict[str, Any] = {name: values.numpy() for name, values in found.items()}
                with replacing(file) as out:
                    np.savez_compressed(out, **arrays)
    except OSError:  # the cache cannot be written to
        return draw()
    return found


def _read(file: Path) -> Rows | None:
    """None where there is none, or one that was cut short."""
    try:
        with np.load(file) as found:
            return {name: torch.from_numpy(found[name]) for name in found.files}
    except (FileNotFoundError, ValueError, EOFError, BadZipFile):
        return None
