"""The data sets that can be loaded by name or by path."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fastgan.data.checks import check_positive_int
from fastgan.data.digits import digits
from fastgan.data.emoji import emoji
from fastgan.data.fluent import fluent
from fastgan.data.folder import RULES, Folder
from fastgan.data.gaussians import Points, grid, ring
from fastgan.data.heads import Heads, eyes, heads
from fastgan.data.hub import TABLES, is_hugging_face, is_table, load_hub, wrapped
from fastgan.data.images import ImageData
from fastgan.data.lazy import Pictures
from fastgan.data.mnist import mnist
from fastgan.data.photos import photos
from fastgan.data.printed import printed
from fastgan.data.problems import printable
from fastgan.data.size import Size, as_size
from fastgan.data.source import Together
from fastgan.data.sources.names import TO, Name, check_source, parsed, two
from fastgan.data.sources.parts import TRAIN
from fastgan.data.sources.two_sides import TwoSides
from fastgan.data.styles import styles
from fastgan.data.vangogh import vangogh

_LOADERS: dict[str, Callable[[], ImageData | Points]] = {"digits": digits, "emoji": emoji, "ring": ring, "grid": grid}

# Of these the parts are settled, and the name alone is the training part.
_PARTED: dict[str, Callable[[str], Any]] = {
    "fluent": fluent,
    "photos": photos,
    "heads": heads,
    "eyes": eyes,
    "mnist": mnist,
    "printed": printed,
    "styles": styles,
    "vangogh": vangogh,
}
_NAMED = (*_LOADERS, *_PARTED)


def names() -> tuple[str, ...]:
    """The names of the data sets that come with the package; `load` accepts paths and `hf:NAME` too."""
    return _NAMED


def settled(name: str) -> bool:
    """Whether that data set has a test part that is in no training on its name alone."""
    return name in _PARTED and not os.path.exists(name)


def load(
    name: str | os.PathLike[str],
    resolution: Size | None = None,
    channels: int | None = None,
    *,
    white: int | None = None,
    target: str | os.PathLike[str] | None = None,
    source: str | None = None,
    rules: int = RULES,
) -> ImageData | Points | Pictures | Together | TwoSides | Heads:
    """A data set, as it is or brought to `resolution` pixels, a side or (height, width), and to 1 or 3 channels.

    name: one of `names()`; a folder of pictures; a .parquet or .arrow file or a folder of them; `hf:NAME`,
        `hf:NAME:CONFIG@SPLIT` (the split train by default), `hf-stream:NAME` for what Hugging Face `datasets` knows;
        or a data set of that library. `NAME@train` and `NAME@test` are parts of it, and
        where these are settled, as of fluent, NAME is the training part; `A=>B` are two data sets, and
        `A=>B@test` is that part of both.
    target: a second data set: pairs of equal names or two domains, whichever is wanted of them.
    source: which is the source of pairs: the "left" or "right" half of each picture, folder "A" or "B".
        `NAME:right` says the same.
    white: the value that is, in pictures of integers of 16 bits or more, such as 4095 of 12 bits in a 16-bit file. By
        default what the file says, else 65535 where the pictures take more than half of that.
    rules: by which a folder is read, as a checkpoint names them; see `Folder`.
    ->  with .name, .classes, .captions but for a stream, .shape (channels, height, width), .resize, .with_channels.

    Raises ValueError for an unknown name or a path that is not there, TypeError for what is neither, ImportError where
    the data set needs a package that is missing, OSError where it cannot be read.
    """
    if resolution is not None:
        as_size(resolution)
    if channels is not None:
        check_positive_int("channels", channels)
    data: Any = wrapped(name) if is_hugging_face(name) else _named(name, target, source, rules)
    if white is not None:
        if not isinstance(data, Pictures | TwoSides):
            raise ValueError(f"{data.name} is not of picture files, whose white could be said: leave white out")
        data = data.with_white(white)
    # Grey first: a third of the values to resize.
    if channels is not None:
        data = data.with_channels(channels)
    return data if resolution is None else data.resize(resolution)


def absolute(name: str) -> str:
    """The name of a data set, by which `load` finds it from every directory: a path that is there becomes absolute."""
    if sides := two(name):
        return TO.join(map(absolute, sides))
    prefix, colon, rest = name.partition(":")
    if colon and prefix in ("hf", "hf-stream"):
        path, at, split = (rest, "", "") if os.path.exists(rest) else rest.partition("@")
        return f"{prefix}:{os.path.abspath(path)}{at}{split}" if os.path.exists(path) else name
    said = parsed(name)
    if said.path in _LOADERS or not os.path.exists(said.path):
        return name
    return str(said._replace(path=os.path.abspath(said.path)))


def _named(
    name: Any, target: Any, source: str | None, rules: int
) -> ImageData | Points | Pictures | Together | TwoSides | Heads:
    name = _text(name)
    if target is not None:
        name = f"{name}{TO}{_text(target)}"
    if source is not None:
        check_source(source)
        said = parsed(name)
        if said.source not in (None, source):
            raise ValueError(f"the source is {source}, but the name says {said.source}: say it once, not twice")
        name = str(said._replace(source=source))
    if sides := two(name):
        return TwoSides(TO.join(sides), *(_named(side, None, None, rules) for side in sides))
    said = parsed(name)
    if said.path in _LOADERS:
        return _part(_LOADERS[said.path](), said)
    if settled(said.path):  # a folder of that name goes first
        _check_whole(said)
        return _PARTED[said.path](said.part or TRAIN)
    if name.startswith(("hf:", "hf-stream:")):
        return load_hub(name)
    if not os.path.exists(said.path):
        raise _unknown(said.path)
    if is_table(said.path):
        return _part(load_hub(said.path), said)
    if not os.path.isdir(said.path):
        raise ValueError(f"{printable(said.path)} is a file: give the folder of pictures, or a .parquet or .arrow file")
    return Folder(name, rules)


def _part(data: Any, said: Name) -> Any:
    """What the name says of a data set that is no folder."""
    _check_whole(said)
    if said.part is None:
        return data
    if not hasattr(data, "part"):
        raise ValueError(f"{said.path} has no parts, so there is no {said.part}: leave @{said.part} out")
    return data.part(said.part)


def _check_whole(said: Name) -> None:
    if said.source:
        raise ValueError(f"{said.path} has no side {said.source}, as folders of pairs have: leave :{said.source} out")


def _text(name: Any) -> str:
    if isinstance(name, os.PathLike):
        name = os.path.join(os.curdir, name) if os.fspath(name) in _NAMED else os.fspath(name)
    if not isinstance(name, str):
        raise TypeError(
            f"load takes the name or the path of a data set, not a {type(name).__name__}: a data set made in Python "
            f"goes to Batches or Trainer as it is; its items tell their size and channels"
        )
    return name


def _unknown(name: str) -> ValueError:
    near = get_close_matches(name.lower(), _NAMED, n=3, cutoff=0.5)
    if not near and (parent := Path(name).parent).is_dir():
        beside = {entry.name: str(entry) for entry in parent.iterdir() if _may_be_data(entry)}
        near = [beside[match] for match in get_close_matches(Path(name).name, beside, n=3, cutoff=0.7)]
    hint = f"did you mean {' or '.join(printable(repr(match)) for match in near)}? " if near else ""
    return ValueError(
        f"unknown data set {printable(repr(name))}: {hint}accepted are {', '.join(_NAMED)}, a path that exists (a "
        f"folder of pictures, .parquet and .arrow files) and hf:NAME"
    )


def _may_be_data(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or path.suffix in TABLES)
