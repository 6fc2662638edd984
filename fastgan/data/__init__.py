"""Data sets, training batches and pictures of what was generated.

`load("emoji")` gives an `ImageData`, `load("photos/")` pictures that are decoded when they are needed, as `hf:NAME`
does for data sets of Hugging Face; `Batches(source, batch_size)` gives the same batches every time, also when resumed
in the middle of an epoch; `grid`, `scatter` and `save_picture` turn samples into a picture.

Each is imported when it is first used: fields and batches of tensors need torch alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.data.batches import Batches
    from fastgan.data.fields import Batch, Images, Labels, Texts, Vectors
    from fastgan.data.gaussians import Points
    from fastgan.data.hints import hints_of, read_hints
    from fastgan.data.images import ImageData
    from fastgan.data.panel import Panel
    from fastgan.data.pictures import draw, enlarged, grid, save_picture, save_png, scatter, to_uint8
    from fastgan.data.registry import load, names
    from fastgan.data.source import Apart, Source, Together, source_of
    from fastgan.data.taking import take
    from fastgan.data.texts import Vocabulary

_NAMES = {
    "Apart": "source",
    "Batch": "fields",
    "Batches": "batches",
    "ImageData": "images",
    "Images": "fields",
    "Labels": "fields",
    "Panel": "panel",
    "Points": "gaussians",
    "Source": "source",
    "Texts": "fields",
    "Together": "source",
    "Vectors": "fields",
    "Vocabulary": "texts",
    "draw": "pictures",
    "enlarged": "pictures",
    "grid": "pictures",
    "hints_of": "hints",
    "load": "registry",
    "names": "registry",
    "read_hints": "hints",
    "save_picture": "pictures",
    "save_png": "pictures",
    "scatter": "pictures",
    "source_of": "source",
    "take": "taking",
    "to_uint8": "pictures",
}

__all__ = [
    "Apart", "Batch", "Batches", "ImageData", "Images", "Labels", "Panel", "Points", "Source", "Texts", "Together",
    "Vectors", "Vocabulary", "draw", "enlarged", "grid", "hints_of", "load", "names", "read_hints", "save_picture",
    "save_png", "scatter", "source_of", "take", "to_uint8",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'fastgan.data' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"fastgan.data.{_NAMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
