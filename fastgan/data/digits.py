"""`digits`: handwritten digits, 1,797 grey images of 8x8 pixels, 10 classes.

The test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998, as scikit-learn has
it; packed by tools/pack_digits.py, licence in assets/LICENSE-digits.txt.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastgan.data.images import ImageData

SHEET = Path(__file__).parent / "assets/digits.png"
SIDE = 8


def digits() -> ImageData:
    """images (1797, 1, 8, 8) uint8, labels the digit."""
    with Image.open(SHEET) as sheet:
        labels = [int(digit) for digit in sheet.info["labels"]]
        pixels = torch.from_numpy(np.array(sheet))
    cells = pixels.unflatten(0, (-1, SIDE)).unflatten(2, (-1, SIDE)).transpose(1, 2)
    return ImageData(
        images=cells.reshape(-1, 1, SIDE, SIDE)[: len(labels)].clone(),
        labels=torch.tensor(labels),
        classes=tuple("0123456789"),
        name="digits",
    )
