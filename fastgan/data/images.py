"""A data set of images held in memory."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.color import LUMA
from fastgan.data.fields import Field, Images, Labels, Texts, check_wanted
from fastgan.data.size import Size, as_size, at_least, check_fit, used_part
from fastgan.data.sources.captioned import Captioned

# Resizing works in float32, four times the size of the images: at most this many values at once.
CHUNK_VALUES = 1 << 23

DIGESTED = 16 << 20  # bytes of pixels that tell one data set from another


@dataclass(frozen=True, eq=False)
class ImageData(Captioned):
    """Images with what is known about each of them.

    images: (N, C, H, W) uint8 with N >= 1.   labels: (N,) int64, an index into `classes`, or None.
    classes: the names of the classes, empty without labels.   captions: one text an image, or empty.
    text: how they become tokens; None: as long as the longest, with the words of the training part's.
    keys: what tells the part of each, those of one key being in one; empty: its number does.
    window: (height, width) of what is cut of them, at a random place in batches; None: they are taken whole.
    Raises TypeError or ValueError where these disagree.
    """

    images: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    name: str = "images"
    digest: str = ""  # of what it was before it was resized or made grey, where it was
    text: Texts | None = None
    keys: tuple[str, ...] = ()
    window: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.images, Tensor) or self.images.dtype != torch.uint8:
            given = self.images.dtype if isinstance(self.images, Tensor) else type(self.images).__name__
            raise TypeError(f"images must be a uint8 tensor (N, C, H, W) with values 0..255, not {given}")
        if self.images.dim() != 4 or self.images.numel() == 0:
            raise ValueError(
                f"images must be (N, C, H, W) with at least one image, channel, row and column, "
                f"not shape {tuple(self.images.shape)}"
            )
        if len(self.captions) not in (0, len(self)):
            raise ValueError(f"{len(self)} images need as many captions or none, not {len(self.captions)}")
        if len(self.keys) not in (0, len(self)):
            raise ValueError(f"{len(self)} images need as many keys or none, not {len(self.keys)}")
        self._check_labels()

    def _check_labels(self) -> None:
        if self.labels is None:
            if self.classes:
                raise ValueError(f"{len(self.classes)} classes without labels: give labels or leave classes empty")
            return
        if not isinstance(self.labels, Tensor) or self.labels.dtype != torch.int64:
            given = self.labels.dtype if isinstance(self.labels, Tensor) else type(self.labels).__name__
            raise TypeError(f"labels must be an int64 tensor (N,) or None, not {given}")
        if self.labels.shape != (len(self),):
            raise ValueError(f"{len(self)} images need labels of shape ({len(self)},), not {tuple(self.labels.shape)}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(
                f"labels run from {low} to {high} but {len(self.classes)} classes are named: "
                f"every label must be the index of a name in classes"
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, *(self.window or (height, width))

    def __repr__(self) -> str:
        """Without the pixels."""
        classes = f", {len(self.classes)} classes" if self.classes else ""
        captions = ", captions" if self.captions else ""
        channels, height, width = self.shape
        return f"ImageData({self.name!r}, {len(self)} images ({channels}, {height}, {width}){classes}{captions})"

    @property
    def fields(self) -> dict[str, Field]:
        """`image`, `label` where there are labels, `text` where there are captions."""
        fields: dict[str, Field] = {"image": Images(*self.shape, "cut" if self.window else "crop")}
        if self.labels is not None:
            fields["label"] = Labels(self.classes)
        if self.captions:
            fields["text"] = self.text_field
        return fields

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return (tuple(self.fields),)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The values of every field, a row each."""
        tensors = {"image": self.images}
        if self.labels is not None:
            tensors["label"] = self.labels
        if self.captions:
            tensors["text"] = self.tokens(range(len(self)))
        return tensors

    def adapted(self, wanted: Mapping[str, Field]) -> "ImageData":
        """The same images at the size and with the channels that are wanted, without labels and texts where none are.
        Where texts are wanted, images without are left out."""
        check_wanted(self.name, self.fields, {"image": self.fields["image"], **wanted})
        data = self
        if isinstance(images := wanted.get("image"), Images):
            data = data.with_channels(images.channels).resize((images.height, images.width), images.fit)
        if self.labels is not None and "label" not in wanted:
            data = replace(data, digest=self._origin(), labels=None, classes=())
        if isinstance(text := wanted.get("text"), Texts):
            rows, said = self.with_text(self.stems)
            data = replace(data, text=self.wanted_text(text))
            return data.take(rows) if said else data
        return replace(data, captions=()) if self.captions else data

    @property
    def stems(self) -> Sequence[str]:
        return self.keys or super().stems

    def take(self, rows: Sequence[int]) -> "ImageData":
        """Those images alone, in that order."""
        chosen = torch.tensor(rows, device=self.images.device)
        return replace(
            self,
            images=self.images[chosen],
            labels=None if self.labels is None else self.labels[chosen],
            captions=tuple(self.captions[row] for row in rows) if self.captions else (),
            keys=tuple(self.keys[row] for row in rows) if self.keys else (),
            digest="",
        )

    def renamed(self, name: str, text: Texts | None) -> "ImageData":
        """The same images by another name, with texts of that field."""
        return replace(self, name=name, text=text)

    def _origin(self) -> str:
        return self.digest or pixel_digest(self.images, self.labels)

    def resize(self, resolution: Size, fit: str = "crop") -> "ImageData":
        """The images at resolution x resolution, or at (height, width): antialiased bicubic, rounded and clamped to
        0..255.

        fit: of images of another aspect ratio "crop" takes the middle part first, so nothing is distorted, "stretch"
        all of it. "cut": windows of that size, of images that are enlarged where they are smaller.
        """
        size = as_size(resolution)
        check_fit(fit)
        if fit == "cut" or self.window:
            whole = replace(self, window=None)
            size = at_least(*whole.shape[1:], size) if fit == "cut" else size
            changed = whole.resize(size, "stretch" if fit == "cut" else fit)
            return replace(changed, window=as_size(resolution) if fit == "cut" else None)
        if self.images.shape[2:] == size:
            return self
        have = self.shape
        top, left, height, width = used_part(have[1], have[2], size, fit)
        part = self.images[:, :, top : top + height, left : left + width]
        if (height, width) == size:
            return replace(self, digest=self._origin(), images=part.contiguous())
        resized = part.new_empty(*part.shape[:2], *size)
        chunk = max(1, CHUNK_VALUES // (part.shape[1] * max(height, size[0]) * max(width, size[1])))
        for source, target in zip(part.split(chunk), resized.split(chunk)):
            values = F.interpolate(source.float(), size, mode="bicubic", antialias=True)
            target.copy_(values.round_().clamp_(0, 255))
        return replace(self, digest=self._origin(), images=resized)

    def with_channels(self, channels: int) -> "ImageData":
        """The images in grey (1: ITU-R BT.601 luma) or with three channels (3: grey repeated)."""
        check_channels(channels)
        have = self.images.shape[1]
        if have == channels:
            return self
        if have not in (1, 3):
            raise ValueError(f"images of {have} channels cannot be made grey or RGB: only 1 or 3 channels can")
        if channels == 3:
            return replace(self, digest=self._origin(), images=self.images.repeat(1, 3, 1, 1))
        grey = self.images.new_empty(len(self), 1, *self.images.shape[2:])
        chunk = max(1, CHUNK_VALUES // self.images[0].numel())
        for source, target in zip(self.images.split(chunk), grey.split(chunk)):
            red, green, blue = source.float().unbind(1)
            target[:, 0] = (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).round_().clamp_(0, 255)
        return replace(self, digest=self._origin(), images=grey)


def pixel_digest(images: Tensor, labels: Tensor | None) -> str:
    """Of the labels and of up to 16 MiB of the images, evenly over them: the same on any device."""
    each = max(1, images[0].numel() * images.element_size()) if len(images) else 1
    count = max(1, min(len(images), DIGESTED // each))
    chosen = torch.arange(count, device=images.device) * len(images) // count
    parts = [f"{tuple(images.shape)} {images.dtype}".encode()]
    for part in (images[chosen], labels):
        if part is not None:
            parts.append(part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def check_channels(channels: int) -> None:
    """Raises ValueError unless channels is 1 or 3."""
    if isinstance(channels, bool) or not isinstance(channels, int) or channels not in (1, 3):
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {channels!r}")
