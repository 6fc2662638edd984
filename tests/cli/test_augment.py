"""fastgan augment: labelled pictures in a folder a class."""

import pytest
import torch

import fastgan
from fastgan.cli import main
from fastgan.data import ImageData, load
from fastgan.runs.augment import augment
from fastgan.systems import create

STEPS = ["--steps", "1", "--batch-size", "4", "--samples", "4", "--device", "cpu", "--sample-every", "0"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    tiny = ["--resolution", "16", "--width", "4", *STEPS]
    assert main(["train", "acgan", "--data", "digits", *tiny, "--out", str(out / "acgan")]) == 0
    assert main(["train", "dcgan", "--data", "digits", *tiny, "--out", str(out / "dcgan")]) == 0
    stages = ["--set", "pretraining=0", "--set", "discriminator_pretraining=0", "--set", "history=4"]
    two = ["--data", "digits", "--target", "digits"]
    assert main(["train", "simgan", *two, *tiny, *stages, "--out", str(out / "simgan")]) == 0
    return out


@pytest.mark.slow
class TestCommand:
    def test_drawn(self, runs, tmp_path, capsys):
        out = tmp_path / "new"
        assert main(["augment", str(runs / "acgan"), "--per-class", "3", "--out", str(out)]) == 0
        assert "30 pictures of 10 classes" in capsys.readouterr().out
        read = load(str(out))
        assert read.classes == tuple("0123456789")
        assert [path.name for path in sorted((out / "7").iterdir())] == ["00000.png", "00001.png", "00002.png"]

    def test_refined(self, runs, tmp_path):
        out = tmp_path / "new"
        out.mkdir()
        assert main(["augment", str(runs / "simgan"), "--per-class", "2", "--out", str(out)]) == 0
        assert sorted(path.name for path in out.iterdir()) == sorted("0123456789")
        assert len(list(out.glob("*/*.png"))) == 20

    def test_says_what_is_wrong(self, runs, tmp_path, error):
        new = tmp_path / "new"
        assert "samples of dcgan have no classes: train a conditional system, as fastgan train acgan" in error(
            "augment", runs / "dcgan", "--per-class", 2, "--out", new
        )
        assert "per_class must be at least 1, not 0" in error("augment", runs / "acgan", "--per-class", 0, "--out", new)
        assert "it takes no data to translate" in error(
            "augment", runs / "acgan", "--per-class", 2, "--out", new, "--data", "digits"
        )
        assert "per_class is at most that, not 500" in error(
            "augment", runs / "simgan", "--per-class", 500, "--out", new
        )
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "x").touch()
        assert "is there already" in error("augment", runs / "acgan", "--per-class", 2, "--out", tmp_path / "full")
        assert not new.exists()


def test_labels_go_along():
    """Rows of the class that they are said to be of, refined."""
    system = create("simgan", resolution=12, width=4, blocks=1, discriminator_width=6, history=0).eval()
    images = torch.randint(0, 256, (12, 1, 12, 12), dtype=torch.uint8)
    labels = torch.arange(12) % 3
    made = list(augment(system, 4, ImageData(images, labels, ("x", "y", "z"))))
    assert [(part.label, part.name, len(part.images)) for part in made] == [(0, "x", 4), (1, "y", 4), (2, "z", 4)]
    for part in made:
        assert torch.equal(part.images, system.translate(images[labels == part.label].float() / 127.5 - 1))


def test_data_without_labels():
    system = create("simgan", resolution=12, width=4, blocks=1, discriminator_width=6, history=0)
    with pytest.raises(ValueError, match="has no labels that its pictures could keep"):
        augment(system, 1, ImageData(torch.zeros(4, 1, 12, 12, dtype=torch.uint8)))
    with pytest.raises(ValueError, match="simgan translates pictures: give it data with labels"):
        augment(system, 1)
    with pytest.raises(ValueError, match="pix2pix makes no pictures of a class"):
        augment(fastgan.systems.create("pix2pix", resolution=32, width=4), 1)


def test_of_the_class_asked_for():
    system = create("acgan", resolution=16, channels=1, width=4, latent=6, classes=3)
    parts = list(augment(system, 70, seed=5))
    assert [(part.label, len(part.images)) for part in parts] == [(0, 64), (0, 6), (1, 64), (1, 6), (2, 64), (2, 6)]
    generator = torch.Generator().manual_seed(5)
    for part in parts:
        labels = torch.full((len(part.images),), part.label)
        assert torch.equal(part.images, system.sample(len(labels), generator=generator, labels=labels))
