"""A data set as a system needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastgan.data.fields import Field, Images
from fastgan.data.images import ImageData
from fastgan.data.lazy import Pictures
from fastgan.data.source import Apart, Together
from fastgan.data.sources.two_sides import TwoSides

OF_ONE_PICTURE = {"image", "vector", "label"}


def fitted(source: Any, wanted: Mapping[str, Field]) -> Any:
    """The source with images of the size and channels that are wanted. Where more than a picture and its label is, the
    fields that are wanted alone; a data set made in Python stays as it is. ValueError for a field that is not there."""
    if not set(wanted) <= OF_ONE_PICTURE or isinstance(source, Apart | Together | TwoSides):
        return source.adapted(wanted) if hasattr(source, "adapted") else source
    image = wanted.get("image")
    if isinstance(image, Images) and isinstance(source, ImageData | Pictures):
        return source.with_channels(image.channels).resize((image.height, image.width), image.fit)
    return source
