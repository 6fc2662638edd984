"""The data of a run, as its system needs them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastgan import data as datasets
from fastgan.data import Batches
from fastgan.systems import System


def load_data(name: str, system: System) -> Any:
    """What `fastgan.data.load` loads by that name, in the system's size and channels."""
    channels, height, _ = system.image_shape
    try:
        return datasets.load(name, height, channels)
    except ValueError as error:
        raise ValueError(f"{error}. Data made in Python go to Trainer.resume as data=") from error


def describe(source: Any, name: str, batches: Batches, system: System) -> dict[str, Any]:
    """What a checkpoint says of the data. ValueError if the system cannot train on them."""
    if hasattr(source, "shape") and not isinstance(source, Tensor):
        channels, height, width = source.shape
    else:
        start = batches.state_dict()
        channels, height, width = next(batches).images.shape[1:]
        batches.load_state_dict(start)
    expected = system.image_shape
    if channels != expected[0]:
        raise ValueError(
            f"{system.name} makes images of {expected[0]} channels, {name} has {channels}: create the system "
            f"with channels={channels}, or use data.with_channels({expected[0]})"
        )
    if (height, width) != expected[1:]:
        raise ValueError(
            f"{system.name} makes images of {expected[1]}x{expected[2]} pixels, {name} has {height}x{width}: "
            f"create the system with another resolution, or use data.resize({expected[1]})"
        )
    return {"name": name, "images": batches.count, "channels": channels, "resolution": height}
