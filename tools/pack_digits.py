"""Writes fastgan/data/assets/digits.png from scikit-learn's copy of the UCI digits: python tools/pack_digits.py

A sheet of 1,797 images of 8x8 pixels, 60 a row, in their order; a pixel is the source's 0..16 times 255 / 16, rounded.
The labels are the text `labels` of the file, a digit each. scikit-learn as constraints.txt pins it has the source.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sklearn.datasets import load_digits

OUT = Path(__file__).parents[1] / "fastgan/data/assets/digits.png"
COLUMNS = 60
SOURCE = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"  # SHA-256 of values and labels, as bytes


def main() -> None:
    source = load_digits()
    values, labels = source.images.astype(np.uint8), source.target.astype(np.uint8)
    found = hashlib.sha256(values.tobytes() + labels.tobytes()).hexdigest()
    if found != SOURCE:
        raise SystemExit(f"the source is not the one that was packed: its SHA-256 is {found}, not {SOURCE}")
    pixels = np.rint(values * (255 / 16)).astype(np.uint8)
    rows = -(-len(pixels) // COLUMNS)
    cells = np.zeros((rows * COLUMNS, 8, 8), np.uint8)
    cells[: len(pixels)] = pixels
    sheet = cells.reshape(rows, COLUMNS, 8, 8).swapaxes(1, 2).reshape(rows * 8, COLUMNS * 8)
    text = PngInfo()
    text.add_text("labels", "".join(map(str, labels)))
    Image.fromarray(sheet).save(OUT, pnginfo=text, optimize=True)
    print(f"{OUT}: {len(pixels)} images, {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
