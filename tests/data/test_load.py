"""The named data sets: what is in them, and how they are asked for."""

import hashlib
import sys
import time

import pytest
import torch

from fastgan.data import load, names


@pytest.fixture(scope="module")
def emoji():
    return load("emoji")


class TestEmoji:
    def test_holds_what_it_says(self, emoji):
        assert emoji.name == "emoji"
        assert emoji.images.shape == (1291, 3, 64, 64)
        assert emoji.images.dtype == torch.uint8
        assert len(emoji.classes) == 8
        assert len(set(emoji.captions)) == len(emoji) == 1291
        assert emoji.labels.bincount(minlength=8).min() >= 13, "a class too small to learn"

    def test_pictures_are_whole_centred_and_all_different(self, emoji):
        drawn = (emoji.images != 255).any(1)
        for along in (drawn.any(1).int(), drawn.any(2).int()):
            first, last = along.argmax(1), 63 - along.flip(1).argmax(1)
            assert ((first + last) / 2 - 31.5).abs().max() <= 1.5
        assert drawn.flatten(1).sum(1).min() > 200, "a picture that is nearly blank"
        assert len(emoji.images.flatten(1).unique(dim=0)) == len(emoji)

    @pytest.mark.parametrize(
        ("caption", "block", "colour"),
        [
            ("black universal recycling symbol", "Miscellaneous Symbols", None),
            ("red apple", "Miscellaneous Symbols and Pictographs", (255, 81, 23)),
            ("green apple", "Miscellaneous Symbols and Pictographs", (135, 194, 68)),
            ("grinning face", "Emoticons", (253, 224, 48)),
            ("blue heart", "Miscellaneous Symbols and Pictographs", (25, 118, 210)),
            ("rocket", "Transport and Map Symbols", None),
            ("large brown square", "Geometric Shapes Extended", None),
            ("moose", "Symbols and Pictographs Extended-A", None),
        ],
    )
    def test_captions_and_classes_belong_to_their_pictures(self, emoji, caption, block, colour):
        i = emoji.captions.index(caption)
        assert emoji.classes[emoji.labels[i]] == block
        if colour is not None:
            assert (emoji.images[i, :, 32, 32].int() - torch.tensor(colour)).abs().max() <= 8

    def test_leaves_out_what_is_no_picture(self, emoji):
        parts = ("skin", "emoji modifier", "regional indicator", "digit", "emoji component", "variation selector")
        assert [c for c in emoji.captions if c.startswith(parts)] == []

    def test_loads_at_once(self, emoji):
        start = time.process_time()
        load("emoji")
        assert time.process_time() - start < 1


class TestDigits:
    def test_holds_what_it_says(self):
        datasets = pytest.importorskip("sklearn.datasets")
        digits, source = load("digits"), datasets.load_digits()
        assert digits.images.shape == (1797, 1, 8, 8)
        assert digits.classes == tuple("0123456789")
        assert digits.labels.tolist() == source.target.tolist()
        assert digits.captions == ()
        assert (int(digits.images.min()), int(digits.images.max())) == (0, 255)
        assert (digits.images[:, 0].double() / 255 * 16 - torch.from_numpy(source.images)).abs().max() < 0.04

    def test_are_in_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn", None)
        digits = load("digits")
        found = hashlib.sha256(digits.images.numpy().tobytes() + bytes(digits.labels.tolist())).hexdigest()
        # The pixels that every run on them has seen.
        assert found == "a19cb3d96bba7deace8ee5a513a6eb7bad0403d528f00bf4d351b6a7a55baa91"


class TestLoad:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_brings_images_to_resolution_and_channels(self, emoji, channels):
        data = load("emoji", resolution=16, channels=channels)
        assert data.images.shape == (1291, channels, 16, 16)
        expected = emoji.with_channels(channels).resize(16).images
        assert torch.equal(data.images, expected)

    def test_every_load_is_the_callers_own(self, emoji):
        before = emoji.images.clone()
        load("emoji").images.zero_()
        assert torch.equal(emoji.images, before)
        assert torch.equal(load("emoji").images, before)

    def test_names_are_those_it_accepts(self):
        assert names() == (
            "digits", "emoji", "ring", "grid", "fluent", "photos", "heads", "eyes", "mnist", "printed", "styles",
            "vangogh",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("emojy", "unknown data set 'emojy': did you mean 'emoji'. accepted are digits, emoji, ring, grid"),
            ("Digits", "unknown data set 'Digits': did you mean 'digits'. accepted are digits, emoji"),
            ("imagenet", "unknown data set 'imagenet': accepted are digits, emoji"),
        ],
    )
    def test_suggests_the_nearest_name(self, name, message):
        with pytest.raises(ValueError, match=message):
            load(name)

    def test_takes_names_and_paths_alone(self):
        with pytest.raises(TypeError, match="not a list: a data set made in Python goes to Batches"):
            load(["emoji"], 32)

    @pytest.mark.parametrize("arguments", [{"resolution": 0}, {"resolution": 32.0}, {"channels": 2}])
    def test_says_what_is_wrong(self, arguments):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
            load("emoji", **arguments)
