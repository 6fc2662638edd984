"""`vangogh`: eight paintings of Vincent van Gogh, 500 pixels high and 376 to 668 wide, of the game GCompris.

The paintings are in the public domain; Debian has the files of the game under GPL-3, so they are read where they are
installed instead of being part of this package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from fastgan.data.decode import Header, Unusable
from fastgan.data.lazy import header_of
from fastgan.data.sources.files import Files
from fastgan.data.sources.parts import TRAIN
from fastgan.data.sources.qt_resources import read_resources

FILE = "/usr/share/gcompris-qt/rcc/details.rcc"  # of Debian's gcompris-qt-data
VARIABLE = "FASTGAN_VANGOGH"
PAINTINGS = {  # what the game calls them, by part
    "train": ("Eglise_dAuvers-sur-Oise", "Gogh4", "PortraitOfPereTanguy", "Van_Gogh_The_Night_Cafe",
              "VincentVanGogh0012", "VincentVanGogh0013"),
    "test": ("VincentVanGogh0019", "VincentVanGoghBridge"),
}  # fmt: skip


def vangogh(part: str) -> Files:
    """`image`: six paintings of the training part, or two of the test part. FileNotFoundError where the game's data are
    not installed, ValueError where they are others."""
    file = Path(os.environ.get(VARIABLE) or FILE)
    if not file.is_file():
        raise FileNotFoundError(
            f"vangogh is read from GCompris, of which there is no {file}: apt-get install gcompris-qt-data, or set "
            f"{VARIABLE} to the details.rcc of it"
        )
    names = [f"{name}_background.webp" for name in PAINTINGS[part]]
    held = read_resources(file, names)
    if missing := [name for name in names if name not in held]:
        raise ValueError(f"{file} must hold the paintings of GCompris 3, there is no {missing[0]} in it")
    return _Held("vangogh" if part == TRAIN else f"vangogh@{part}", held)


class _Held(Files):
    """Pictures that are in memory as files are."""

    def __init__(self, name: str, held: Mapping[str, bytes]) -> None:
        super().__init__(name, "", sorted(held))
        self._held = held

    def _open(self, index: int) -> BinaryIO | bytes:
        return self._held[self._paths[index]]

    def _header(self, index: int) -> Header | Unusable:
        return header_of(lambda: self._open(index))
