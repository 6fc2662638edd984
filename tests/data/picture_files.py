"""Picture files that the tests of this folder make."""

import io

import numpy as np
from PIL import Image


def pixels(index=0, height=24, width=24, channels=3):
    """(H, W[, C]) uint8: smooth noise, so that JPEG changes it little."""
    rng = np.random.default_rng(index)
    coarse = rng.integers(0, 256, (6, 6, channels), dtype=np.uint8)
    image = Image.fromarray(coarse if channels == 3 else coarse[:, :, 0])
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def picture(index=0, height=24, width=24, channels=3):
    return Image.fromarray(pixels(index, height, width, channels))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def folder(root, count=20, classes=("cats", "dogs"), kind="png", height=24, width=24):
    """root/CLASS/NN.kind, each another picture; no classes: root/NN.kind."""
    for i in range(count):
        place = root / classes[i % len(classes)] if classes else root
        place.mkdir(parents=True, exist_ok=True)
        picture(i, height, width).save(place / f"{i:03}.{kind}")
    return root
