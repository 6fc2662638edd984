"""Pictures one after the other, as an animated GIF."""

import math
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastgan.files import replacing

# Browsers show frames that ask for less at 0.1 s.
SHORTEST = 0.02  # seconds
COLOURS = 256  # of a GIF, a frame
FRAMES = 60  # of a film, at most
SIDE = 800  # pixels of a side of a film, at most
LASTS, SLOWEST = 5.0, 1.0  # seconds: of a film without its last frame, of each frame at most


def save_gif(path: str | PathLike[str], frames: Iterable[Tensor], seconds: float = 0.1, hold: float = 1.0) -> None:
    """Write frames, each (1 or 3, H, W) uint8 and all of one shape, as a GIF that plays over and over: wholly, or not
    at all.

    seconds: how long a frame is shown, in steps of 0.01 from 0.02 on.   hold: the same of the last frame.
    Grey is exact; of RGB each frame keeps its 256 most useful colours. A file already at `path` is replaced in one
    step. Raises TypeError or ValueError for other frames or times, FileNotFoundError where the directory does not
    exist.
    """
    for name, value in ("seconds", seconds), ("hold", hold):
        if not SHORTEST <= value <= 600:
            raise ValueError(f"{name} must lie between {SHORTEST} and 600, not {value}")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no directory {path.parent}, create it first")
    pictures = _pictures(frames)
    milliseconds = [round(seconds * 100) * 10] * (len(pictures) - 1) + [round(hold * 100) * 10]
    with replacing(path) as file:
        first, *others = pictures
        first.save(file, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=False)


def film(files: Sequence[Path], path: str | PathLike[str]) -> None:
    """PNG files one after the other as a GIF: at most FRAMES of them, evenly chosen, first and last always, reduced by
    a whole factor to at most SIDE pixels a side. Those of another size than the last are left out. It lasts as long as
    one looks: a few frames are shown a second each, many pass in five seconds, and the last one stays."""
    count = min(FRAMES, len(files))
    chosen = [files[round(i * (len(files) - 1) / max(1, count - 1))] for i in range(count)]

    def frames() -> Iterator[Tensor]:
        with Image.open(chosen[-1]) as last:
            mode, size = last.mode, last.size
        for file in chosen:
            with Image.open(file) as image:
                if (image.mode, image.size) == (mode, size):
                    pixels = np.array(image.reduce(math.ceil(max(size) / SIDE)))
                    yield torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)

    seconds = min(SLOWEST, LASTS / max(1, count - 1))
    save_gif(path, frames(), seconds, hold=1.5)


def _pictures(frames: Iterable[Tensor]) -> list[Image.Image]:
    """One byte a pixel: a film of many large frames is never in memory as RGB."""
    pictures: list[Image.Image] = []
    shape = None
    for frame in frames:
        if frame.dtype != torch.uint8:
            raise TypeError(f"frames must be uint8, not {frame.dtype}: fastgan.data.to_uint8 converts from [-1, 1]")
        if frame.dim() != 3 or frame.shape[0] not in (1, 3) or frame.numel() == 0:
            raise ValueError(f"frames must be (1 or 3, H, W) and not empty, not shape {tuple(frame.shape)}")
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(f"frames must have one shape, not {tuple(shape)} and {tuple(frame.shape)}")
        pixels = frame.cpu().permute(1, 2, 0).numpy()
        if shape[0] == 1:
            pictures.append(Image.fromarray(pixels[:, :, 0]))
        else:
            pictures.append(Image.fromarray(pixels).quantize(COLOURS))
    if not pictures:
        raise ValueError("a GIF needs at least one frame, not none")
    return pictures
