"""ImageData: what it refuses, and that its conversions are those of Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.data import ImageData, images


def noise(count=5, channels=3, height=24, width=24):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def pillow(image):
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": noise().float()}, TypeError, r"uint8 tensor \(N, C, H, W\).*not torch.float32"),
        ({"images": np.zeros((2, 3, 8, 8), np.uint8)}, TypeError, "uint8 tensor.*not ndarray"),
        ({"images": noise()[0]}, ValueError, r"not shape \(3, 24, 24\)"),
        ({"images": noise()[:0]}, ValueError, "at least one image"),
        ({"captions": ("a", "b")}, ValueError, "5 images need as many captions or none, not 2"),
        ({"classes": ("a",)}, ValueError, "1 classes without labels"),
        ({"labels": torch.zeros(4).long(), "classes": ("a",)}, ValueError, r"shape \(5,\), not \(4,\)"),
        ({"labels": torch.zeros(5), "classes": ("a",)}, TypeError, "int64 tensor.*not torch.float32"),
        ({"labels": [0] * 5, "classes": ("a",)}, TypeError, "int64 tensor.*not list"),
        ({"labels": torch.arange(5), "classes": tuple("abcd")}, ValueError, "run from 0 to 4 but 4 classes"),
        ({"labels": torch.arange(5) - 1, "classes": tuple("abcd")}, ValueError, "run from -1 to 3"),
        ({"labels": torch.zeros(5).long()}, ValueError, "0 classes are named"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        ImageData(**{"images": noise(), **arguments})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [1, 7, 12, 25, 48])
def test_resizes_as_pillow_does(channels, resolution):
    data = ImageData(noise(channels=channels) // 3 + 85)
    resized = data.resize(resolution).images
    assert resized.shape == (5, channels, resolution, resolution)
    assert resized.dtype == torch.uint8
    for before, after in zip(data.images, resized):
        # Pillow rounds after each of its two passes, and clamps: hence values that do not overshoot.
        expected = np.array(pillow(before).resize((resolution, resolution), Image.Resampling.BICUBIC))
        assert np.abs(expected.astype(int) - np.array(pillow(after)).astype(int)).max() <= 1


def test_resizing_clamps_instead_of_wrapping_around():
    edge = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    edge[..., 4:] = 255
    row = ImageData(edge).resize(32).images[0, 0, 16].int()
    assert (row.diff() >= 0).all(), "bicubic overshoot beyond 0 or 255 came out at the other end"


def test_chunks_do_not_show(monkeypatch):
    data = ImageData(noise(count=7))
    whole, grey = data.resize(10).images, data.with_channels(1).images
    monkeypatch.setattr(images, "CHUNK_VALUES", 2 * 3 * 24 * 24)
    assert torch.equal(data.resize(10).images, whole)
    assert torch.equal(data.with_channels(1).images, grey)


def test_crops_to_the_centre_square():
    wide = noise(height=8, width=13)
    assert torch.equal(ImageData(wide).resize(8).images, wide[..., 2:10])
    assert torch.equal(ImageData(wide.mT.contiguous()).resize(8).images, wide.mT[..., 2:10, :])
    assert torch.equal(ImageData(wide).resize(16).images, ImageData(wide[..., 2:10]).resize(16).images)


def test_conversions_keep_what_is_known_of_the_images():
    data = ImageData(noise(), torch.arange(5), tuple("abcde"), tuple("vwxyz"), "noise")
    for changed in (data.resize(8), data.with_channels(1)):
        assert (changed.labels, changed.classes, changed.captions, changed.name) == (
            data.labels,
            data.classes,
            data.captions,
            "noise",
        )
        assert len(changed) == 5


def test_grey_is_pillows_luma():
    data = ImageData(noise())
    expected = np.stack([np.array(pillow(image).convert("L")) for image in data.images])
    # Pillow works in 16-bit integers.
    assert np.abs(expected.astype(int) - data.with_channels(1).images[:, 0].numpy().astype(int)).max() <= 1


def test_grey_to_colour_and_back_is_the_same():
    grey = ImageData(noise(channels=1))
    colour = grey.with_channels(3)
    assert torch.equal(colour.images, grey.images.expand(-1, 3, -1, -1))
    assert torch.equal(colour.with_channels(1).images, grey.images)


@pytest.mark.parametrize("value", [0, -8, 8.0, "8", True, None])
def test_resolution_must_be_a_positive_integer(value):
    with pytest.raises(ValueError, match=r"resolution must be a positive integer or two of them.*, not"):
        ImageData(noise()).resize(value)


@pytest.mark.parametrize("value", [0, 2, 4, "3", 3.0, True])
def test_channels_must_be_1_or_3(value):
    with pytest.raises(ValueError, match=r"channels must be 1 \(grey\) or 3 \(RGB\), not"):
        ImageData(noise()).with_channels(value)


def test_four_channels_are_not_guessed_at():
    with pytest.raises(ValueError, match="images of 4 channels"):
        ImageData(noise(channels=4)).with_channels(3)
