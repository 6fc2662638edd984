"""The data sets that can be loaded by name."""

from collections.abc import Callable
from difflib import get_close_matches

from fastgan.data.digits import digits
from fastgan.data.emoji import emoji
from fastgan.data.images import ImageData, check_positive_int

_LOADERS: dict[str, Callable[[], ImageData]] = {"digits": digits, "emoji": emoji}


def names() -> tuple[str, ...]:
    """The names that `load` accepts."""
    return tuple(_LOADERS)


def load(name: str, resolution: int | None = None, channels: int | None = None) -> ImageData:
    """The data set of that name, as it is or brought to `resolution` pixels and to 1 or 3 channels.

    Raises ValueError for an unknown name, ImportError where the data set needs a package that is missing.
    """
    if not isinstance(name, str) or name not in _LOADERS:
        near = get_close_matches(str(name).lower(), _LOADERS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(f"unknown data set {name!r}: {hint}accepted are {', '.join(_LOADERS)}")
    if resolution is not None:
        check_positive_int("resolution", resolution)
    data = _LOADERS[name]()
    # Grey first: a third of the values to resize.
    if channels is not None:
        data = data.with_channels(channels)
    return data if resolution is None else data.resize(resolution)
