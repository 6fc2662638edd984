"""What images must be, wherever they enter: dtype, shape, range and finite values, in one wording."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

# Interpolation and rounding overshoot [-1, 1] a little.
TOLERANCE = 0.01
HALF = "give images * 2 - 1 (mean 0.5 and standard deviation 0.5), or uint8"
CLAMP = "clamp(-1, 1) what a network without tanh makes"


def checked_images(images: Any, what: str) -> Tensor:
    """images (N, C, H, W), unchanged where uint8, as float32 where floating point in [-1, 1].

    what: names the images in errors. Raises TypeError or ValueError for all others.
    """
    if not isinstance(images, Tensor):
        hint = ": torch.from_numpy(array).permute(0, 3, 1, 2)" if isinstance(images, np.ndarray) else ""
        raise TypeError(f"{what} must be a tensor (N, C, H, W), not {type(images).__name__}{hint}")
    _check_shape(images, what)
    if images.dtype == torch.uint8:
        return images
    return in_range(images, what)


def in_range(images: Tensor, what: str) -> Tensor:
    """Floating-point images of any shape in [-1, 1], as float32; else TypeError, ValueError."""
    check_dtype(images.dtype, what)
    values = images.detach().float()
    if values.numel():
        low, high = (float(bound) for bound in values.aminmax())
        if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):
            raise ValueError(_outside(what, values, low, high))
    return values


def check_centred(lowest: float, what: str) -> None:
    """ValueError for floating-point images whose lowest value of all is not negative: they lie in [0, 1].

    To be asked of a whole set, or of 64 images and more, and not of a system's own samples: one picture, or all
    pictures of a generator that has collapsed, may be bright everywhere. uint8 leaves nothing to guess.
    """
    if lowest >= 0:
        raise ValueError(f"{what}: no value is negative, they seem to lie in [0, 1]: {HALF}")


def check_shape(given: Any, expected: Any, what: str, owner: str) -> None:
    """ValueError unless `what`, (C, H, W), has the size and channels of `owner`."""
    if tuple(given) != tuple(expected):
        raise ValueError(
            f"{what} has shape {tuple(given)} (channels, height, width), {owner} {tuple(expected)}: bring both to one "
            f"size and as many channels"
        )


def check_dtype(dtype: torch.dtype, what: str) -> None:
    """TypeError for what is neither uint8 nor floating point."""
    if dtype == torch.uint8 or dtype.is_floating_point:
        return
    advice = "give uint8 in 0..255, or floating point in [-1, 1]"
    if dtype == torch.bool:
        advice = "give images * 2.0 - 1"
    elif not dtype.is_complex:
        advice = "integers of that many bits have no known white: give images / white * 2 - 1, or uint8 in 0..255"
    raise TypeError(
        f"{what} must be uint8 or floating point in [-1, 1], not {str(dtype).removeprefix('torch.')}: {advice}"
    )


def _check_shape(images: Tensor, what: str) -> None:
    if images.dim() == 3:
        raise ValueError(
            f"{what} must be (N, C, H, W), not shape {tuple(images.shape)}: images.unsqueeze(1) of grey images "
            f"(N, H, W), images[None] of one image (C, H, W)"
        )
    if images.dim() != 4 or 0 in images.shape[1:]:
        raise ValueError(f"{what} must be (N, C, H, W) with no empty dimension, not shape {tuple(images.shape)}")
    if images.shape[1] > 4 >= min(images.shape[2:]):
        raise ValueError(
            f"{what}: channels, height, width seem to be swapped, they came out as {tuple(images.shape[1:])}: "
            f"tensors are channels first (C, H, W), NumPy arrays channels last (H, W, C)"
        )


def _outside(what: str, values: Tensor, low: float, high: float) -> str:
    if not values.isfinite().all():
        return f"{what} hold NaN or infinity: the generator or the data set that made them is broken"
    advice = f"give uint8, or normalise to [-1, 1] with mean 0.5 and standard deviation 0.5, or {CLAMP}"
    if low >= 0 and high <= 256:
        advice = f"they seem to lie in [0, 255]: give uint8, or images / 127.5 - 1; {CLAMP}"
    return f"{what}: values run from {low:g} to {high:g}, outside [-1, 1]: {advice}"


def check_positive_int(name: str, value: int) -> None:
    """Raises ValueError unless value is an int >= 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, not {value!r}")
