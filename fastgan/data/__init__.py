"""Data sets, training batches and pictures of what was generated.

`load("emoji")` gives an `ImageData`, `load("photos/")` pictures that are decoded when they are needed, as `hf:NAME`
does for data sets of Hugging Face; `Batches(source, batch_size)` gives the same batches every time, also when resumed
in the middle of an epoch; `grid`, `scatter` and `save_picture` turn samples into a picture.
"""

from fastgan.data.batches import Batches
from fastgan.data.fields import Batch, Images, Labels, Texts, Vectors
from fastgan.data.gaussians import Points
from fastgan.data.images import ImageData
from fastgan.data.pictures import enlarged, grid, save_picture, save_png, scatter, to_uint8
from fastgan.data.registry import load, names
from fastgan.data.source import Apart, Source, Together, source_of

__all__ = [
    "Apart", "Batch", "Batches", "ImageData", "Images", "Labels", "Points", "Source", "Texts", "Together", "Vectors",
    "enlarged", "grid", "load", "names", "save_picture", "save_png", "scatter", "source_of", "to_uint8",
]  # fmt: skip
