"""Images of any source, in memory."""

from __future__ import annotations

import math
from typing import Any

import torch

from fastgan.data.batches import Batches
from fastgan.data.gaussians import Points
from fastgan.data.images import ImageData
from fastgan.data.pictures import to_uint8

BATCH = 64
BYTES = 1 << 30  # of images, at most


def gather(source: Any, most: int, *, seed: int = 0, workers: int | None = None) -> ImageData | Points:
    """At most `most` images of what `Batches` takes, at most 1 GiB of them; a random choice by `seed` where there are
    more, of a stream about the first. Floating point is rounded to uint8. Points are given back as they are.

    TypeError or ValueError for a source that cannot be used.
    """
    if isinstance(source, Points):
        return source
    if isinstance(source, ImageData) and len(source) <= most and source.window is None:
        return source
    size = min(BATCH, len(source)) if hasattr(source, "__len__") else BATCH
    batches = Batches(source, max(1, size), seed=seed, channels_last=False, drop_last=False, workers=workers, memory=0)
    images, labels, count = [], [], 0
    most = min(most, batches.count or most)
    while count < most:
        batch = next(batches)
        if batches.state_dict()["epoch"] > 0:  # a stream's end shows only when it begins again
            break
        images.append(to_uint8(batch.image))
        labels.append(batch.get("label"))
        count += len(batch.image)
        most = min(most, max(1, BYTES // math.prod(batch.image.shape[1:])))
    classes = tuple(getattr(source, "classes", ()))
    known = torch.cat([part for part in labels if part is not None])[:most] if labels[0] is not None else None
    if known is not None and len(classes) <= int(known.max()):
        classes = tuple(str(number) for number in range(int(known.max()) + 1))
    return ImageData(
        images=torch.cat(images)[:most],
        labels=known if classes else None,
        classes=classes if known is not None else (),
        name=str(getattr(source, "name", type(source).__name__)),
    )
