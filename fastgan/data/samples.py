"""One image and its label out of whatever a data set returns; batches of them, in any number of worker processes."""

import operator
import random
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, get_worker_info

from fastgan.data.checks import checked_images
from fastgan.data.decode import quiet
from fastgan.data.lazy import LazyPictures
from fastgan.data.problems import Note
from fastgan.random import private

GREY_MODES = {"1", "L", "LA", "La"}
COLOUR_MODES = {"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"}


class Read(NamedTuple):
    """A batch as it was read: images (B, C, H, W), labels (B,) int64 or None, and notes on its pictures."""

    images: Tensor
    labels: Tensor | None
    notes: list[Note]


class Samples(Dataset[Read | Exception]):
    """Reads whole batches of a map-style data set that the user brought.

    Every item is read with Python's, NumPy's and PyTorch's CPU generators seeded for it, so that random augmentations
    give the same image in any worker and after a resume. Lists, tuples and a TensorDataset draw nothing.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.draws_nothing = type(source) in (list, tuple, TensorDataset)

    def __getitem__(self, chosen: Sequence[tuple[int, int]]) -> Read | Exception:
        """chosen: (index, seed) of each item.   ->   the batch, or the error that names an item that cannot be used.

        The error is returned, not raised: the DataLoader would wrap its message in two tracebacks, and hold itself in a
        reference cycle that ends in five seconds of waiting for its workers (torch 2.13).
        """
        samples: list[tuple[Tensor, int | None]] = []
        notes: list[Note] = []
        for index, seed in chosen:
            with nullcontext() if self.draws_nothing else seeded(seed):
                sample = self._sample(index, notes)
            if isinstance(sample, Exception):
                return sample
            samples.append(sample)
        return stacked(samples, [f"item {index}" for index, _ in chosen], notes)

    def _sample(self, index: int, notes: list[Note]) -> tuple[Tensor, int | None] | Exception:
        what = f"item {index} of the data set"
        try:
            item = self.source[index]
        except Exception as error:
            return unreadable(what, error)
        notes += notes_on(item, f"item {index}")
        return sample_of(item, what)


class Decoded(Dataset[Read | Exception]):
    """Reads whole batches of a data set of picture files."""

    def __init__(self, source: LazyPictures) -> None:
        self.source = source

    def __getitem__(self, indices: Sequence[int]) -> Read | Exception:
        """The batch, or the error to raise."""
        try:
            with quiet():
                read = [self.source.read(index) for index in indices]
        except Exception as error:
            return error
        images = torch.stack([image for image, _, _ in read]) if read else torch.empty(0)
        labels = [label for _, label, _ in read]
        notes = [note for _, _, notes in read for note in notes]
        return Read(images, None if not labels or labels[0] is None else torch.tensor(labels), notes)


def notes_on(item: Any, name: str) -> list[Note]:
    """That the transparency of a Pillow image is dropped, where it has any."""
    image = item[0] if isinstance(item, tuple | list) and item else item
    if not isinstance(image, Image.Image) or image.mode not in GREY_MODES | COLOUR_MODES:
        return []
    try:
        clear = "transparency" in image.info
        if not clear and "A" in image.getbands():
            clear = image.getchannel("A").getextrema()[0] != 255
    except Exception:  # a file that cannot be read, as sample_of will say
        return []
    return [Note(name, "transparency dropped", False)] if clear else []


def stacked(
    samples: Sequence[tuple[Tensor, int | None]], names: Sequence[str], notes: Sequence[Note] = ()
) -> Read | Exception:
    """The samples as one batch, or the error that names one that is unlike the first."""
    kinds = [kind_of(*sample) for sample in samples]
    for name, kind in zip(names, kinds):
        if kind != kinds[0]:
            return unlike(f"{name} is {kind}, {names[0]} is {kinds[0]}")
    images, labels = zip(*samples)
    return Read(torch.stack(images), None if labels[0] is None else torch.tensor(labels), list(notes))


def kind_of(image: Tensor, label: object) -> str:
    """What all items of a data set must have in common, in words."""
    dtype = str(image.dtype).removeprefix("torch.")
    return f"{dtype} {tuple(image.shape)} {'without' if label is None else 'with'} a label"


def unlike(difference: str) -> ValueError:
    """The error for items that cannot be in one batch."""
    return ValueError(f"the data set's items must be alike, but {difference}: resize and convert them in the data set")


def unreadable(what: str, error: Exception) -> RuntimeError:
    return RuntimeError(f"{what} cannot be read: {error!r}\n\n{traceback.format_exc()}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block Python's, NumPy's and PyTorch's CPU generators, which augmentations draw from, follow from the
    seed, 0..2**32-1. Elsewhere than in a worker process, the states of Python's and NumPy's, which all threads share,
    are put back afterwards; PyTorch's is not touched."""
    worker = get_worker_info() is not None
    states = None if worker else (random.getstate(), np.random.get_state())  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if states is None:
        torch.random.default_generator.manual_seed(seed)
        yield
        return
    try:
        with private(seed):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def sample_of(item: Any, what: str) -> tuple[Tensor, int | None] | Exception:
    """The sample, or the error that says why the item is none."""
    try:
        return read_sample(item, what)
    except (TypeError, ValueError) as error:
        return error
    except Exception as error:  # Pillow decodes files only when their pixels are asked for
        return unreadable(what, error)


def read_sample(item: Any, what: str) -> tuple[Tensor, int | None]:
    """An item of a data set as image (C, H, W), uint8 or float32 in [-1, 1], and label.

    item: an image or a tuple (image, integer label, ...).   An image: a tensor (C, H, W) or a NumPy array (H, W) or
    (H, W, C), uint8 or floating point in [-1, 1]; or a Pillow image of 8 bits a channel, which becomes grey or RGB.
    what: names the item in errors.
    """
    label: int | None = None
    image = item
    if isinstance(item, (tuple, list)) and item:
        image = item[0]
        label = _integer(item[1], what) if len(item) > 1 and item[1] is not None else None
    if isinstance(image, Image.Image):
        image = _pixels(image, what)
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise ValueError(f"{what}: a NumPy image must be (H, W) or (H, W, C), got shape {image.shape}")
        channels_first = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        if channels_first.dtype.kind not in "buif":
            raise TypeError(f"{what} must be numbers, uint8 or floating point in [-1, 1], got {image.dtype}")
        # A copy: the array may be read-only or have negative strides, which tensors cannot.
        image = torch.from_numpy(np.array(channels_first, order="C", dtype=image.dtype.newbyteorder("=")))
    if not isinstance(image, Tensor):
        raise TypeError(
            f"{what} is a {type(item).__name__}: an image is a tensor (C, H, W), a NumPy array (H, W, C) or a "
            f"Pillow image, and an item is an image or a tuple (image, integer label)"
        )
    if image.dim() != 3:
        raise ValueError(f"{what}: an image tensor must be (C, H, W), got shape {tuple(image.shape)}")
    return checked_images(image[None], what)[0], label


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
            f"{what}: the second entry must be an integer label, got {type(label).__name__}: return the image alone "
            f"or (image, integer)"
        ) from None
