"""The fields of one item of whatever a data set returns."""

import operator
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastgan.data.checks import checked_images
from fastgan.data.fields import Field, Images, Labels, Texts, Vectors
from fastgan.data.problems import Note

GREY_MODES = {"1", "L", "LA", "La"}
COLOUR_MODES = {"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"}

Row = dict[str, Tensor | int]  # of each field: an image (C, H, W), a vector (N,), tokens (N,), or a label


def row_of(item: Any, what: str) -> Row | Exception:
    """The fields of an item, or the error that says why it has none."""
    try:
        return read_row(item, what)
    except (TypeError, ValueError) as error:
        return error
    except Exception as error:  # Pillow decodes files only when their pixels are asked for
        return unreadable(what, error)


def read_row(item: Any, what: str) -> Row:
    """An item of a data set by fields: `image` and, where there is one, `label`; of a mapping, what that names.

    item: an image, a tuple (image, integer label, ...), or a mapping from names to images, integer labels, vectors of
    floating point (N,) or tokens (N,) of integers.   An image: a tensor (C, H, W) or a NumPy array (H, W) or (H, W, C),
    uint8 or floating point in [-1, 1]; or a Pillow image of 8 bits a channel, which becomes grey or RGB.
    what: names the item in errors.   ->   images as uint8 or float32 in [-1, 1]
    """
    if isinstance(item, Mapping):
        if not item or not all(isinstance(name, str) for name in item):
            raise TypeError(f"{what}: a mapping must go from names of fields to their values, not {_briefly(item)}")
        return {name: _value(value, f"{what}, {name}") for name, value in item.items()}
    image, row = item, {}
    if isinstance(item, (tuple, list)) and item:
        image = item[0]
        if len(item) > 1 and item[1] is not None:
            row["label"] = _integer(item[1], what)
    return {"image": _image(image, what, item), **row}


def field_of(value: Tensor | int, classes: tuple[str, ...] = ()) -> Field:
    """What field a value of a row belongs to."""
    if isinstance(value, int):
        return Labels(classes)
    if value.dim() == 1:
        return Vectors(len(value)) if value.is_floating_point() else Texts(len(value))
    channels, height, width = value.shape
    return Images(channels, height, width)


def notes_on(item: Any, name: str) -> list[Note]:
    """That the transparency of a Pillow image is dropped, where it has any."""
    if isinstance(item, Mapping):
        return [note for value in item.values() for note in notes_on(value, name)]
    image = item[0] if isinstance(item, tuple | list) and item else item
    if not isinstance(image, Image.Image) or image.mode not in GREY_MODES | COLOUR_MODES:
        return []
    try:
        clear = "transparency" in image.info
        if not clear and "A" in image.getbands():
            clear = image.getchannel("A").getextrema()[0] != 255
    except Exception:  # a file that cannot be read, as row_of will say
        return []
    return [Note(name, "transparency dropped", False)] if clear else []


def unreadable(what: str, error: Exception) -> RuntimeError:
    return RuntimeError(f"{what} cannot be read: {error!r}\n\n{traceback.format_exc()}")


def _value(value: Any, what: str) -> Tensor | int:
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "iuf":
        value = torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
    if isinstance(value, Tensor) and value.dim() == 1:
        if value.is_floating_point():
            return value.float()
        if value.dtype != torch.bool and not value.is_complex():
            return value.long()
    if isinstance(value, Tensor | np.ndarray | Image.Image) and (isinstance(value, Image.Image) or value.ndim):
        return _image(value, what, value)
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{what} must be an image, an integer label, a vector of floating point or integer tokens, not "
            f"{_briefly(value)}"
        ) from None


def _image(image: Any, what: str, item: Any) -> Tensor:
    if isinstance(image, Image.Image):
        image = _pixels(image, what)
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise ValueError(f"{what}: a NumPy image must be (H, W) or (H, W, C), not of shape {image.shape}")
        channels_first = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        if channels_first.dtype.kind not in "buif":
            raise TypeError(f"{what} must be numbers, uint8 or floating point in [-1, 1], not {image.dtype}")
        # A copy: the array may be read-only or have negative strides, which tensors cannot.
        image = torch.from_numpy(np.array(channels_first, order="C", dtype=image.dtype.newbyteorder("=")))
    if not isinstance(image, Tensor):
        raise TypeError(
            f"{what} is a {type(item).__name__}: an image is a tensor (C, H, W), a NumPy array (H, W, C) or a "
            f"Pillow image, and an item is an image, a tuple (image, integer label) or a mapping of fields"
        )
    if image.dim() != 3:
        raise ValueError(f"{what}: an image tensor must be (C, H, W), not of shape {tuple(image.shape)}")
    return checked_images(image[None], what)[0]


def _pixels(image: Image.Image, what: str) -> np.ndarray:
    if image.mode in GREY_MODES:
        return np.array(image.convert("L"))
    if image.mode in COLOUR_MODES:
        return np.array(image.convert("RGB"))
    raise TypeError(
        f"{what} is a Pillow image of mode {image.mode!r}, which is not of 8 bits a channel: scale it to L or RGB first"
    )


def _integer(label: Any, what: str) -> int:
    try:
        return operator.index(label)
    except TypeError:
        raise TypeError(
            f"{what}: the second entry must be an integer label, not {type(label).__name__}: return the image alone "
            f"or (image, integer)"
        ) from None


def _briefly(value: Any) -> str:
    return type(value).__name__ if not isinstance(value, Mapping) else f"{type(value).__name__} of {list(value)[:3]}"
