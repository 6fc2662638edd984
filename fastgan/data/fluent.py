"""`fluent`: 1,594 drawings of 128x128 pixels, each in black lines and in flat colors, with their names as texts.

Fluent Emoji of Microsoft, high contrast and flat, rendered by tools/render_fluent.py; licence in
assets/LICENSE-fluent.txt.
"""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastgan.data.images import ImageData
from fastgan.data.source import Together
from fastgan.data.sources.parts import TRAIN

ASSETS = Path(__file__).parent / "assets"

# Drawings that differ in these words alone are one drawing mirrored, recolored or with other hair: if one of them were
# in the training part and one in the test, the test would ask for what was shown.
_VARIANTS = re.compile(
    r"\b(?:man|woman|person|men|women|people|boy|girl|facing|left|right|up|down|(?:left|right|up|down)wards"
    r"|red|orange|yellow|green|blue|purple|pink|brown|black|white|grey|light|dark|small|medium|large)\b"
)
_SERIES = (
    (re.compile(r"oclock|thirty"), "clock"),
    (re.compile(r"\bmoon\b"), "moon"),
    (re.compile(r"keycap"), "keycap"),
)


def family(caption: str) -> str:
    """By what drawings that are nearly the same are in one part."""
    for pattern, series in _SERIES:
        if pattern.search(caption):
            return series
    return " ".join(_VARIANTS.sub(" ", caption).split()) or "plain"


@cache
def pictures() -> list[tuple[str, str, str]]:
    """Name, code points in hexadecimal digits, and caption of each drawing, in the order of the sheets."""
    return [tuple(row) for row in _index()["pictures"]]


def sheet(file: str) -> Tensor:
    """All drawings of a sheet, (1594, C, 128, 128) uint8 on white: `drawn`, C = 1, or `flat`, C = 3."""
    side = _index()["resolution"]
    with Image.open(ASSETS / f"fluent-{file}.webp") as whole:
        pixels = torch.from_numpy(np.array(whole.convert("L" if file == "drawn" else "RGB")))
    cells = pixels.view(-1, side, pixels.shape[1] // side, side, pixels.shape[2] if pixels.dim() == 3 else 1)
    return cells.permute(0, 2, 4, 1, 3).reshape(-1, cells.shape[-1], side, side)[: len(pictures())]


def fluent(part: str) -> Together:
    """`source` (1, 128, 128) in black, `target` (3, 128, 128) in colors, which is `image`, too; `text`, the names."""
    captions = tuple(caption for _, _, caption in pictures())
    keys = tuple(map(family, captions))
    name = "fluent" if part == TRAIN else f"fluent@{part}"
    drawn = ImageData(sheet("drawn"), name="fluent", keys=keys).part(part)
    flat = ImageData(sheet("flat"), captions=captions, name="fluent", keys=keys).part(part)
    fields = {"source": (drawn, "image"), "target": (flat, "image"), "image": (flat, "image"), "text": (flat, "text")}
    return Together(name, fields)


@cache
def _index() -> dict:
    return json.loads((ASSETS / "fluent.json").read_text(encoding="utf-8"))
