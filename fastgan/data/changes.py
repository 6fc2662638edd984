"""Random changes of images, drawn once a row of a group and applied to every image of it, so that pairs stay pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.data.fields import Field, Images
from fastgan.data.windows import cropped


class Changes(NamedTuple):
    """What is drawn for each of B rows."""

    flips: Tensor  # (B,) bool, each true with probability 1/2
    shifts: Tensor  # (B, 2) int64 in 0..jitter, down and to the right; (B, 0) without jitter
    places: Tensor  # (B, 2) int64 in 0..2**31 - 1, of windows; (B, 0) where none are cut

    def of(self, rows: slice) -> Changes:
        return Changes(*(values[rows] for values in self))

    def to(self, device: torch.device) -> Changes:
        return Changes(*(values.to(device, non_blocking=True) for values in self))


def changed(images: Tensor, changes: Changes, flip: bool, jitter: int) -> Tensor:
    """Images (B, C, H + jitter, W + jitter), of each the part of (H, W) at its shift, mirrored where it is a flip.

    ->  (B, C, H, W), of the same dtype
    """
    if jitter:
        images = cropped(images, changes.shifts, images.shape[2] - jitter, images.shape[3] - jitter)
    if flip:
        images = torch.where(changes.flips.view(-1, 1, 1, 1), images.flip(3), images)
    return images


def enlarged(
    name: str, fields: Mapping[str, Field], groups: tuple[tuple[str, ...], ...], jitter: int
) -> dict[str, Field]:
    """The fields, images larger by `jitter` pixels. ValueError where those of a group differ in size."""
    for group in groups:
        sizes = {field.shape[1:]: key for key in group if isinstance(field := fields[key], Images)}
        if len(sizes) > 1:
            said = ", ".join(f"{width}x{height} of {key!r}" for (height, width), key in sizes.items())
            raise ValueError(f"jitter needs images of one size where they are drawn together, not {said} of {name}")
    return {
        key: replace(field, height=field.height + jitter, width=field.width + jitter)
        if isinstance(field, Images)
        else field
        for key, field in fields.items()
    }
