"""Images as pictures: from [-1, 1] to uint8, many in a grid, a grid in a PNG file; points of the plane as dots."""

import math
import os
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from fastgan.data.checks import check_positive_int, in_range
from fastgan.data.panel import Panel
from fastgan.files import replacing


def to_uint8(images: Tensor) -> Tensor:
    """Floating-point images in [-1, 1], of any shape, to 0..255: rounded; uint8 stays.

    Raises TypeError for other integers, ValueError for values beyond [-1, 1] (by more than 0.01) and for NaN.
    """
    if images.dtype == torch.uint8:
        return images
    return ((in_range(images, "images") + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(images: Tensor, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """uint8 images, of any shape, as float32 in [-1, 1]; what is floating point becomes float32."""
    values = images.to(torch.float32, memory_format=memory_format)
    return values.div_(127.5).sub_(1) if images.dtype == torch.uint8 else values


def grid(images: Tensor, columns: int | None = None, padding: int = 2) -> Tensor:
    """The images side by side on black, row by row.

    images: (N, C, H, W), floating point in [-1, 1] or uint8, C in {1, 3}.   columns: by default as square as can be.
    padding: black pixels around and between.   ->   (C, H', W') uint8
    """
    if images.dim() != 4 or images.shape[0] == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, 1 or 3, H, W) with N >= 1, not shape {tuple(images.shape)}")
    if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
        raise ValueError(f"padding must be an integer >= 0, not {padding!r}")
    if columns is None:
        columns = math.ceil(math.sqrt(len(images)))
    check_positive_int("columns", columns)
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    cells = images.new_zeros(rows * columns, channels, height + padding, width + padding, dtype=torch.uint8)
    cells[:count, :, padding:, padding:] = to_uint8(images)
    picture = cells.view(rows, columns, channels, height + padding, width + padding).permute(2, 0, 3, 1, 4)
    picture = picture.reshape(channels, rows * (height + padding), columns * (width + padding))
    return torch.nn.functional.pad(picture, (0, padding, 0, padding))


def enlarged(picture: Tensor, least: int = 512) -> Tensor:
    """(..., H, W), each pixel repeated a whole number of times, so that the longer side has at least `least`: what a
    person can see, without a pixel that was not there."""
    times = -(-least // max(picture.shape[-2:]))
    return picture.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2)


def scatter(points: Tensor, behind: Tensor | None = None, side: int = 400) -> Tensor:
    """Points of the plane as dots on white, where many lie on one another darker. The square [-1, 1] x [-1, 1], the
    second coordinate upwards, with a margin; points beyond it lie on its edge.

    points: (N, 2), floating point.   behind: likewise, drawn first, in grey.
    side: pixels, at least 32.   ->   (3, side, side) uint8
    """
    check_positive_int("side", side)
    if side < 32:
        raise ValueError(f"side must be at least 32 pixels, not {side}")
    picture = torch.ones(3, side, side)
    for name, given, colour in (("behind", behind, GREY), ("points", points, BLUE)):
        if given is None:
            continue
        if given.dim() != 2 or given.shape[1] != 2 or not given.is_floating_point():
            raise ValueError(f"{name} must be floating point (N, 2), not {given.dtype} of shape {tuple(given.shape)}")
        places = given.detach().float().cpu()
        if places.isnan().any():
            raise ValueError(f"{name} hold NaN: the generator that made them has diverged")
        at = ((places.clamp(-1, 1) * (1 - MARGIN) + 1) / 2 * (side - 1)).round().long()
        column, row = at[:, 0, None], side - 1 - at[:, 1, None]
        pixels = ((row + _DOT[:, 0]) * side + column + _DOT[:, 1]).flatten()
        dots = torch.bincount(pixels, minlength=side * side).view(side, side)
        picture += (torch.tensor(colour)[:, None, None] - picture) * (1 - 0.5**dots)
    return (picture * 255).round().to(torch.uint8)


MARGIN = 0.08  # of a picture of points
GREY, BLUE = (0.72, 0.72, 0.72), (0.05, 0.25, 0.75)
_DOT = torch.tensor([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])  # pixels of one


def draw(panel: Panel) -> Tensor:
    """uint8 (C, H, W) on the CPU, large enough to be seen; what lies beyond [-1, 1] is clamped. Of channels that no PNG
    shows, the first one. ValueError for a panel without images or points."""
    parts = list(panel.parts.values())
    if not parts:
        raise ValueError(f"the panel {panel.name!r} has no images: its parts are empty")
    if parts[0].dim() == 2:
        return scatter(parts[0], panel.behind)
    if len(parts) == 1:
        return enlarged(grid(_shown(parts[0]), panel.columns).cpu())
    height = max(part.shape[2] for part in parts)
    width = max(part.shape[3] for part in parts)
    color = any(part.shape[1] == 3 for part in parts)
    cells = [_cell(_shown(part), height, width, color) for part in parts]
    rows = torch.stack(cells, 1).flatten(0, 1)  # sample 0 of each part, then sample 1, ...
    return enlarged(grid(rows, len(parts)).cpu())


def _shown(images: Tensor) -> Tensor:
    return to_uint8((images if images.shape[1] in (1, 3) else images[:, :1]).clamp(-1, 1))


def _cell(images: Tensor, height: int, width: int, color: bool) -> Tensor:
    """uint8 images of one size; smaller ones, as those that are to be enlarged, by the nearest pixel."""
    if color and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if images.shape[2:] != (height, width):
        rows = torch.arange(height, device=images.device) * images.shape[2] // height
        columns = torch.arange(width, device=images.device) * images.shape[3] // width
        images = images[:, :, rows[:, None], columns]
    return images


SOFTWARE = "Software", "FastGAN"  # what a PNG file says of where it comes from


def _marked() -> PngInfo:
    info = PngInfo()
    info.add_text(*SOFTWARE)
    return info


# Pillow's name of a format, and how to write it: JPEG without the coarser colours that make red edges bleed.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"pnginfo": _marked()}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}


MOST = {".webp": 16383, ".jpg": 65535, ".jpeg": 65535}  # pixels a side that a file of that format can hold


def check_sides(path: str | PathLike[str], height: int, width: int) -> None:
    """ValueError where a picture of that size does not go into a file of that name."""
    suffix = os.path.splitext(path)[1].lower()
    if (most := MOST.get(suffix)) and max(height, width) > most:
        raise ValueError(
            f"a {suffix} file holds sides of at most {most} pixels, not {width}x{height}: give it a name in .png"
        )


def save_picture(path: str | PathLike[str], image: Tensor) -> None:
    """Write image, (1 or 3, H, W) uint8, in the format that the name asks for: .png, .jpg, .jpeg or .webp (lossless).

    As `save_png`; ValueError for another name, too.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise ValueError(f"a picture is a file that ends in {', '.join(FORMATS)}, not {os.fspath(path)!r}")
    if isinstance(image, Tensor) and image.dim() == 3:
        check_sides(path, *image.shape[1:])
    _save(path, image, *FORMATS[suffix])


def save_png(path: str | PathLike[str], image: Tensor) -> None:
    """Write image, (1 or 3, H, W) uint8, as a PNG file: wholly, or not at all.

    A file already at `path` is replaced in one step. Raises TypeError or ValueError for another image,
    FileNotFoundError where the directory does not exist.
    """
    _save(path, image, *FORMATS[".png"])


def _save(path: str | PathLike[str], image: Tensor, kind: str, settings: dict[str, Any]) -> None:
    if not isinstance(image, Tensor):
        raise TypeError(f"image must be a tensor (after the path), not {type(image).__name__}")
    if image.dtype != torch.uint8:
        raise TypeError(f"image must be uint8, not {image.dtype}: fastgan.data.to_uint8 converts from [-1, 1]")
    if image.dim() != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise ValueError(f"image must be (1 or 3, H, W) and not empty, not shape {tuple(image.shape)}")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no directory {path.parent}, create it first")
    pixels = image.cpu().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if image.shape[0] == 1 else pixels)
    with replacing(path) as file:
        picture.save(file, kind, **settings)
