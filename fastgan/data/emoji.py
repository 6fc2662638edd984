"""`emoji`: 1,291 colour pictures of 64x64 pixels, their Unicode names as captions, their Unicode blocks as 8 classes.

From the font Noto Color Emoji, rendered by tools/render_emoji.py; licence in assets/LICENSE-emoji.txt.
"""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastgan.data.images import ImageData

ASSETS = Path(__file__).parent / "assets"


def code_points() -> list[str]:
    """Of each picture, in hexadecimal digits."""
    index = json.loads((ASSETS / "emoji.json").read_text(encoding="utf-8"))
    return [f"{point:x}" for point, _, _ in index["pictures"]]


def emoji() -> ImageData:
    """images (1291, 3, 64, 64) uint8 on white, in the order of their code points."""
    index = json.loads((ASSETS / "emoji.json").read_text(encoding="utf-8"))
    with Image.open(ASSETS / "emoji.webp") as sheet:
        pixels = torch.from_numpy(np.array(sheet.convert("RGB")))
    side, columns = index["resolution"], index["columns"]
    _, captions, labels = zip(*index["pictures"])
    cells = pixels.view(-1, side, columns, side, 3).permute(0, 2, 4, 1, 3)
    return ImageData(
        images=cells.reshape(-1, 3, side, side)[: len(captions)].clone(),
        labels=torch.tensor(labels),
        classes=tuple(index["classes"]),
        captions=captions,
        name="emoji",
    )
