"""The classifier whose features metrics use, and features of a network in a file."""

import math
import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan.data import load
from fastgan.metrics import (
    Classifier,
    FileFeatures,
    PretrainedFeatures,
    classifier,
    density_coverage,
    evaluate,
    frechet_distance,
    precision_recall,
)
from fastgan.pretrained import features as pretrained


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(classifier, "STEPS", 6)


def stripes(count=200, side=32):
    """Two classes: stripes across, stripes down, of random phases; not symmetric from top to bottom."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    phase = torch.rand(count, 1, 1, generator=random) * 2 * math.pi
    lines = torch.sin(torch.linspace(0, 12, side)[None, :, None] + phase).expand(-1, -1, side)
    images = (
        torch.where(labels.bool()[:, None, None], lines, lines.transpose(1, 2)) * torch.linspace(0, 1, side)[:, None]
    )
    return ((images[:, None] + 1) * 127.5).to(torch.uint8), labels


class TestClassifier:
    @pytest.mark.slow
    def test_digits(self):
        """At least 98 % of digits that it has not seen; in the cache of all tests."""
        data = load("digits", 32)
        features = Classifier(data.images, data.labels, 10)
        assert features.accuracy >= 0.98
        found = features(data.images[:100])
        assert found.features.shape == (100, 96)
        assert (found.classes == data.labels[:100]).double().mean() > 0.95
        assert features.describe()["features"] == "classifier of 10 classes, trained on the data"

    @pytest.mark.slow
    def test_without_labels_what_is_no_data_is_far(self, cache):
        """Features of quarter turns gave uniform noise a precision of 0.7 here and of 0.99 on photographs."""
        images = load("emoji", 32).images
        images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(1))]
        real, other = images[:645], images[645:]
        features = Classifier(real)
        assert features.accuracy > 4 * features.chance
        assert not features.blind
        assert features(real[:3]).classes is None
        random = torch.Generator().manual_seed(3)
        order = torch.rand(len(other), 32 * 32, generator=random).argsort(dim=1)[:, None].expand(-1, 3, -1)
        values = other.float()
        controls = {
            "noise": torch.randint(256, other.shape, generator=random).byte(),
            "flat": values.mean((2, 3), keepdim=True).expand_as(values).byte(),
            "mosaic": F.interpolate(F.adaptive_avg_pool2d(values, 2), (32, 32)).byte(),
            "shuffled": other.flatten(2).gather(2, order).view_as(other),
        }
        a = features(real).features
        fine = features(other).features
        assert precision_recall(a, fine).precision > 0.8
        assert density_coverage(a, fine).coverage > 0.8
        for name, control in controls.items():
            b = features(control).features
            assert frechet_distance(a, b) > 50 * frechet_distance(a, fine), name
            assert precision_recall(a, b).precision < 0.3, name
            assert density_coverage(a, b).coverage < 0.1, name

    def test_knows_when_it_has_learned_nothing(self, cache, monkeypatch):
        monkeypatch.setattr(classifier, "STEPS", 4)
        noise = torch.randint(256, (300, 1, 8, 8)).byte()
        labels = torch.arange(300) % 10
        blind = Classifier(noise, labels, 10)
        assert blind.blind
        assert blind.chance == 0.1
        assert blind.describe()["chance"] == 0.1

    def test_repeatable_and_kept(self, cache, quick):
        images, labels = stripes()
        state, threads = torch.get_rng_state(), torch.get_num_threads()
        first = Classifier(images, labels, 2)
        assert torch.equal(state, torch.get_rng_state())
        assert threads == torch.get_num_threads()
        (file,) = cache.iterdir()
        second = Classifier(images, labels, 2)
        assert (first.cached, second.cached) == (False, True)
        file.unlink()
        third = Classifier(images, labels, 2)
        assert not third.cached
        for other in second, third:
            assert torch.equal(first(images).features, other(images).features)
            assert other.accuracy == first.accuracy

    @pytest.mark.slow
    def test_each_its_own_file(self, cache, quick):
        images, labels = stripes()
        Classifier(images, labels, 2)
        other = images.clone()
        other[0, 0, 0, 0] += 1
        for arguments in ((other, labels, 2), (images, labels, 3), (images, 1 - labels, 2), (images,)):
            assert not Classifier(*arguments).cached
        assert not Classifier(images, labels, 2, seed=1).cached
        assert len(list(cache.iterdir())) == 6

    @pytest.mark.parametrize("damage", ["empty", "cut", "a bit", "another network", "a directory"])
    def test_a_damaged_file_is_ignored(self, cache, quick, damage):
        images, labels = stripes()
        expected = Classifier(images, labels, 2)(images).features
        (file,) = cache.iterdir()
        content = file.read_bytes()
        if damage == "another network":
            classifier._write(file, nn.Linear(2, 2))
        elif damage == "a directory":
            file.unlink()
            file.mkdir()
        else:
            flipped = content[:500] + bytes([content[500] ^ 1]) + content[501:]
            file.write_bytes({"empty": b"", "cut": content[:-100], "a bit": flipped}[damage])
        again = Classifier(images, labels, 2)
        assert not again.cached
        assert torch.equal(again(images).features, expected)
        if damage != "a directory":
            assert Classifier(images, labels, 2).cached

    def test_nothing_in_the_file_is_executed(self, cache, quick, tmp_path):
        import hashlib
        import pickle

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        images, labels = stripes()
        Classifier(images, labels, 2)
        (file,) = cache.iterdir()
        content = pickle.dumps(Evil())
        file.write_bytes(hashlib.sha256(content).digest() + content)
        assert not Classifier(images, labels, 2).cached
        assert not (tmp_path / "executed").exists()

    def test_no_place_to_keep_it(self, tmp_path, monkeypatch, quick, caplog):
        (tmp_path / "file").touch()
        monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "file"))
        images, labels = stripes()
        Classifier(images, labels, 2)
        assert "the next evaluation trains it again" in caplog.text

    def test_sizes(self, cache, quick):
        """32x32 inside, 64x64 for images that are as large; the same images in other number formats."""
        images, labels = stripes(side=70)
        large = Classifier(images, labels, 2)
        assert (large.side, large(images[:3]).features.shape) == (64, (3, 192))
        small = Classifier(images[:, :, :20, :20], labels, 2)
        part = images[:30, :, :20, :20]
        torch.testing.assert_close(small(part).features, small(part.double() / 127.5 - 1).features)

    @pytest.mark.parametrize(
        ("images", "labels", "message"),
        [
            (torch.zeros(30, 1, 8, 8), None, r"images: no value is negative.*\[0, 1\]"),
            (torch.zeros(30, 1, 8, 8).int(), None, r"images must be uint8 or floating point in \[-1, 1\], not int32"),
            (torch.zeros(30, 8, 8, dtype=torch.uint8), None, r"not shape \(30, 8, 8\)"),
            (torch.zeros(10, 1, 8, 8, dtype=torch.uint8), None, "at least 20 images to learn from, not 10"),
            (torch.zeros(30, 1, 8, 8, dtype=torch.uint8), torch.zeros(29).long(), "30 images need int64 labels"),
            (torch.zeros(30, 1, 8, 8, dtype=torch.uint8), torch.full((30,), 2), r"labels must lie in 0..classes - 1"),
        ],
    )
    def test_says_what_is_wrong(self, images, labels, message):
        with pytest.raises((TypeError, ValueError), match=message):
            Classifier(images, labels, 2)


class Means(nn.Module):
    """Stands for Inception: the means of each channel's halves."""

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        assert images.dtype == torch.uint8
        halves = images.float().unflatten(2, (2, -1)).mean(dim=(3, 4)).flatten(1)
        return halves if return_features else halves[:, :1]


class Plain(nn.Module):
    def forward(self, images):
        return images.float().mean(dim=(2, 3))


class TestPretrainedFeatures:
    def test_a_name_and_a_network(self):
        images = torch.randint(0, 256, (70, 1, 24, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        network = pretrained("small")
        found = PretrainedFeatures("small")(images)
        torch.testing.assert_close(found.features, network.describe(images / 127.5 - 1))
        assert found.classes is None
        torch.testing.assert_close(PretrainedFeatures(network)(images.double() / 127.5 - 1).features, found.features)
        network.side = 16
        assert PretrainedFeatures(network).describe() == {
            "features": "small", "resize": "16x16, antialiased bilinear", "range": "uint8, then [-1, 1]"}  # fmt: skip

    def test_evaluate_takes_them(self):
        images = load("digits", 16).images[:80]
        values = [
            evaluate(images[:40], images[40:], features=features, metrics=["frechet", "precision"])
            for features in ("small", pretrained("small"), PretrainedFeatures("small"))
        ]
        assert values[0] == values[1] == values[2]
        assert values[0].protocol["features"] == "small"
        with pytest.raises(ValueError, match=r"features must be small, lite0, .* not 'smal'"):
            evaluate(images[:40], images[40:], features="smal")


class TestFileFeatures:
    def test_torchscript(self, tmp_path):
        torch.jit.script(Means()).save(str(tmp_path / "network.pt"))
        features = FileFeatures(tmp_path / "network.pt")
        images = torch.randint(0, 256, (70, 1, 8, 8), dtype=torch.uint8)
        found = features(images).features
        torch.testing.assert_close(found, Means()(images.expand(-1, 3, -1, -1), True))
        torch.testing.assert_close(features(images.double() / 127.5 - 1).features, found)
        assert features.describe()["features"].startswith("network.pt, SHA-256 ")

    def test_exported_program(self, tmp_path):
        batch = torch.export.Dim("batch")
        program = torch.export.export(
            Plain(), (torch.zeros(4, 3, 8, 8, dtype=torch.uint8),), dynamic_shapes={"images": {0: batch}}
        )
        torch.export.save(program, tmp_path / "network.pt2")
        images = torch.randint(0, 256, (70, 3, 8, 8), dtype=torch.uint8)
        torch.testing.assert_close(FileFeatures(tmp_path / "network.pt2")(images).features, Plain()(images))

    def test_says_what_is_wrong(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere.pt"):
            FileFeatures(tmp_path / "nowhere.pt")
        torch.save(Plain(), tmp_path / "pickled.pt")
        with pytest.raises(ValueError, match=r"pickled\.pt is neither TorchScript nor an exported program"):
            FileFeatures(tmp_path / "pickled.pt")
        torch.jit.trace(nn.Flatten(0), torch.zeros(2, 3, 8, 8)).save(str(tmp_path / "flat.pt"))
        with pytest.raises(ValueError, match=r"must give features \(2, D\), it gave \(384,\)"):
            FileFeatures(tmp_path / "flat.pt")(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
