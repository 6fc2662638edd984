"""The data sets that can be loaded by name or by path."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fastgan.data.digits import digits
from fastgan.data.emoji import emoji
from fastgan.data.folder import Folder
from fastgan.data.gaussians import Points, grid, ring
from fastgan.data.hub import is_hugging_face, is_table, load_hub, wrapped
from fastgan.data.images import ImageData, check_positive_int
from fastgan.data.lazy import Pictures
from fastgan.data.problems import printable

_LOADERS: dict[str, Callable[[], ImageData | Points]] = {"digits": digits, "emoji": emoji, "ring": ring, "grid": grid}


def names() -> tuple[str, ...]:
    """The names of the data sets that come with the package; `load` accepts paths and `hf:NAME` too."""
    return tuple(_LOADERS)


def load(
    name: str | os.PathLike[str], resolution: int | None = None, channels: int | None = None
) -> ImageData | Points | Pictures:
    """A data set, as it is or brought to `resolution` pixels and to 1 or 3 channels.

    name: one of `names()`; a folder of pictures; a .parquet or .arrow file or a folder of them; `hf:NAME`,
        `hf:NAME:CONFIG@SPLIT` (the split train by default), `hf-stream:NAME` for what Hugging Face `datasets` knows;
        or a data set of that library.
    ->  with .name, .classes, .captions but for a stream, .shape (channels, height, width), .resize, .with_channels.

    Raises ValueError for an unknown name or a path that is not there, ImportError where the data set needs a package
    that is missing, OSError where it cannot be read.
    """
    if resolution is not None:
        check_positive_int("resolution", resolution)
    if channels is not None:
        check_positive_int("channels", channels)
    data: Any = wrapped(name) if is_hugging_face(name) else _named(name)
    # Grey first: a third of the values to resize.
    if channels is not None:
        data = data.with_channels(channels)
    return data if resolution is None else data.resize(resolution)


def _named(name: Any) -> ImageData | Points | Pictures:
    if isinstance(name, os.PathLike):
        name = os.path.join(os.curdir, name) if os.fspath(name) in _LOADERS else os.fspath(name)
    if not isinstance(name, str):
        raise _unknown(name)
    if name in _LOADERS:
        return _LOADERS[name]()
    if name.startswith(("hf:", "hf-stream:")):
        return load_hub(name)
    if not os.path.exists(name):
        raise _unknown(name)
    if is_table(name):
        return load_hub(name)
    if not os.path.isdir(name):
        raise ValueError(f"{printable(name)} is a file: give the folder of pictures, or a .parquet or .arrow file")
    return Folder(name)


def _unknown(name: Any) -> ValueError:
    near = get_close_matches(str(name).lower(), _LOADERS, n=3, cutoff=0.5)
    if not near and isinstance(name, str) and (parent := Path(name).parent).is_dir():
        beside = {entry.name: str(entry) for entry in parent.iterdir() if not entry.name.startswith(".")}
        near = [beside[match] for match in get_close_matches(Path(name).name, beside, n=3, cutoff=0.7)]
    hint = f"did you mean {' or '.join(printable(repr(match)) for match in near)}? " if near else ""
    return ValueError(
        f"unknown data set {printable(repr(name))}: {hint}accepted are {', '.join(_LOADERS)}, a path that exists (a "
        f"folder of pictures, .parquet and .arrow files) and hf:NAME"
    )
