import pytest
import torch

from fastgan.systems import create

TINY = {"resolution": 16, "channels": 1, "width": 8, "latent": 8}


@pytest.fixture
def tiny():
    """Make a new tiny DCGAN: the same weights each time."""

    def make(**config):
        torch.manual_seed(0)
        return create("dcgan", **{**TINY, **config})

    return make


@pytest.fixture
def pictures():
    """50 grey pictures of 16x16 pixels."""
    from fastgan.data import ImageData  # it needs Pillow, which a machine that tests the step alone may lack

    pixels = torch.randint(0, 256, (50, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return ImageData(images=pixels, labels=None, classes=(), captions=(), name="noise")
