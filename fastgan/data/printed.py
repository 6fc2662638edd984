"""`printed`: 6,000 printed digits of 28x28 pixels, white on black, drawn from a seed; 1,000 of them to test on.

They are kept in the user's cache. The font is the one inside Pillow, so that they are the same everywhere; each digit
has a stroke width, an affine map and an elastic warp of its own, after Simard et al., "Best Practices for Convolutional
Neural Networks", 2003.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fastgan.data.drawn import Rows, cached
from fastgan.data.images import ImageData
from fastgan.data.sources.parts import TRAIN

VERSION = 1  # of the pictures: another one is drawn anew
SIDE = 28
ROWS = {"train": 5000, "test": 1000}
SEEDS = {"train": 0, "test": 1}
STROKES = (0, 1, 2, 3)  # pixels around the outline, of 84


def printed(part: str) -> ImageData:
    """images (5000 or 1000, 1, 28, 28) uint8, labels the digit, as many of each."""
    drawn = cached(f"printed-{part}-{VERSION}", lambda: draw(SEEDS[part], ROWS[part]))
    name = "printed" if part == TRAIN else f"printed@{part}"
    return ImageData(drawn["images"], drawn["labels"], tuple("0123456789"), name=name)


def draw(seed: int, count: int) -> Rows:
    """`images` and `labels` of so many."""
    random = np.random.default_rng(seed)
    labels = torch.from_numpy(random.permutation(count) % 10)
    strokes = torch.from_numpy(random.integers(len(STROKES), size=count))
    shapes = torch.stack([_glyph(digit, stroke) for digit in range(10) for stroke in STROKES])
    where = _places(random, count)
    images = torch.cat([
        _drawn(shapes[labels[rows] * len(STROKES) + strokes[rows]], where[rows])
        for rows in torch.arange(count).split(500)
    ])  # fmt: skip
    return {"images": images, "labels": labels}


def _glyph(digit: int, stroke: int) -> Tensor:
    """(1, 84, 84) in [0, 1], the digit in the middle."""
    side = 3 * SIDE
    picture = Image.new("L", (side, side))
    font = ImageFont.load_default(68)
    ImageDraw.Draw(picture).text((side / 2, side / 2), str(digit), 255, font, anchor="mm", stroke_width=stroke)
    return torch.from_numpy(np.array(picture))[None] / 255


def _places(random: np.random.Generator, count: int) -> Tensor:
    """(count, 56, 56, 2): where in its shape each pixel, at twice the resolution, is taken from, in [-1, 1]."""
    angle, shear = random.uniform(-0.25, 0.25, count), random.uniform(-0.2, 0.2, count)
    wide, high = random.uniform(0.85, 1.35, count), random.uniform(0.9, 1.25, count)
    cos, sin = np.cos(angle), np.sin(angle)
    rows = [[wide * cos, wide * (shear * cos - sin)], [high * sin, high * (shear * sin + cos)]]
    maps = np.concatenate([np.array(rows).transpose(2, 0, 1), random.uniform(-0.1, 0.1, (count, 2, 1))], 2)
    grid = F.affine_grid(torch.from_numpy(maps).float(), [count, 1, 2 * SIDE, 2 * SIDE], align_corners=False)
    coarse = torch.from_numpy(random.normal(0, 0.03, (count, 2, 5, 5))).float()
    warp = F.interpolate(coarse, (2 * SIDE, 2 * SIDE), mode="bicubic", align_corners=True)
    return grid + warp.movedim(1, -1)


def _drawn(shapes: Tensor, where: Tensor) -> Tensor:
    found = F.avg_pool2d(F.grid_sample(shapes, where, align_corners=False), 2)
    return (found * 255).round().to(torch.uint8)
