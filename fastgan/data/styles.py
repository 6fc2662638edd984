"""`styles`: emoji drawn by two families of artists, as two domains; of the test part each in both, the truth.

Of `emoji` (Noto) and `fluent` (Fluent flat), brought together by their code points.
"""

import hashlib

from torch import Tensor

from fastgan.data.emoji import code_points, emoji
from fastgan.data.fluent import family, pictures, sheet
from fastgan.data.images import ImageData
from fastgan.data.source import Together
from fastgan.data.sources.parts import TRAIN
from fastgan.data.sources.two_sides import TwoSides

TEST = 128  # pictures
SELECTOR = "fe0f"  # says that a character is a picture: one family writes it, the other does not
SIDE = 64  # pixels

Rows = list[tuple[int, int]]  # of one thing: its row among the Noto pictures, and its row among the Fluent ones


def styles(part: str) -> TwoSides | Together:
    """Domains `a` (Noto) and `b` (Fluent flat), (3, 64, 64) each: nothing is in both. Of the test part each of 128
    others is a row of both."""
    test, a, b = divided()
    noto, flat = emoji().images, sheet("flat")

    def drawn(images: Tensor, rows: list[int]) -> ImageData:
        return ImageData(images[rows], name="styles").resize(SIDE)

    if part == TRAIN:
        return TwoSides("styles", drawn(noto, [row for row, _ in a]), drawn(flat, [row for _, row in b]))
    first, second = (drawn(images, list(rows)) for images, rows in zip((noto, flat), zip(*test)))
    return Together(f"styles@{part}", {"a": (first, "image"), "b": (second, "image")})


def divided() -> tuple[Rows, Rows, Rows]:
    """What is in the test part, in domain a, and in domain b. What is nearly the same is in one of them alone."""
    of_noto = {points: row for row, points in enumerate(code_points())}
    families: dict[str, Rows] = {}
    for row, (_, points, caption) in enumerate(pictures()):
        points = "-".join(point for point in points.split("-") if point != SELECTOR)
        if points in of_noto:
            families.setdefault(family(caption), []).append((of_noto[points], row))
    test: Rows = []
    a: Rows = []
    b: Rows = []
    for name in sorted(families, key=lambda name: hashlib.sha256(name.encode()).digest()):
        fits = len(test) + len(families[name]) <= TEST
        part = test if fits else min(a, b, key=len)
        part += families[name]
    return test, a, b
