"""fastgan translate: pictures of any size through a run that translates."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import fastgan
from fastgan.cli import main
from fastgan.cli.asked import picture
from fastgan.data import load, save_png, to_uint8
from fastgan.runs.translation import translated


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs, in folders A and B of training, and a run of two steps on them."""
    folder = tmp_path_factory.mktemp("translate")
    digits = load("digits", 16, 3).images[:12]
    for side, images in ("A", digits), ("B", 255 - digits):
        (folder / "pairs" / side).mkdir(parents=True)
        for number, image in enumerate(images):
            save_png(folder / "pairs" / side / f"{number}.png", image)
    words = "--steps 2 --batch-size 4 --samples 2 --resolution 16 --set width=4 --set layers=1 --device cpu"
    where = ["--data", str(folder / "pairs"), "--out", str(folder / "run")]
    assert main(["train", "pix2pix", *where, *words.split()]) == 0
    save_png(folder / "large.png", load("emoji").images[0][:, :40, :50])
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return str(folder / "run")


def test_the_end_of_a_training_says_what_to_do(folder, tmp_path, capsys):
    assert main(["train", "--resume", str(folder / "run"), "--steps", "3"]) == 0
    assert "fastgan translate" in capsys.readouterr().out


def test_a_folder_keeps_its_names(run, folder, capsys):
    assert (
        main(["translate", run, str(folder / "pairs"), "--out", "made", "--sheet", "sheet.png", "--gif", "sheet.gif"])
        == 0
    )
    assert capsys.readouterr().out == "made: 24 pictures translated\n"
    system = fastgan.load(run)
    expected = system.translate(picture(folder / "pairs/B/3.png", 3))
    assert torch.equal(picture_of("made/B/3.png"), to_uint8(expected[0].clamp(-1, 1)))
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (3 * 2 * 258 + 2, 8 * 258 + 2)
    with Image.open("sheet.gif") as gif:
        assert gif.n_frames > 8
        assert gif.size == (5 * 258 // 2 + 1, 5 * 258 // 2 + 1)


def test_one_of_another_size_as_a_file(run, folder, capsys):
    assert main(["translate", run, str(folder / "large.png"), "--out", "large-made.png"]) == 0
    made = picture_of("large-made.png")
    assert made.shape == (3, 40, 50)
    expected = translated(fastgan.load(run), picture(folder / "large.png", 3))
    assert torch.equal(made, to_uint8(expected[0]))


def test_what_cannot_be_used_is_named_and_the_others_go_on(run, folder, capsys, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.png").write_bytes(b"no picture")
    save_png(tmp_path / "in/small.png", torch.zeros(3, 4, 3, dtype=torch.uint8))
    save_png(tmp_path / "in/good.png", torch.zeros(1, 32, 32, dtype=torch.uint8))
    assert main(["translate", run, "in", "--out", "made"]) == 1
    said = capsys.readouterr()
    assert said.out == "made: 2 pictures translated, 1 left out\n"
    assert "broken.png: not a picture" in said.err
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["good.png", "small.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nothing.png --out made", "there is no picture and no folder nothing.png"),
        ("{folder}/pairs --out one.png", "24 pictures need a folder: give --out DIR, not 'one.png'"),
        ("{folder}/pairs --out {folder}", "holds 3 files already: choose a new one or empty it"),
        ("{folder}/pairs/A {folder}/pairs/B --out made", "would both become 0.png"),
        ("{folder}/pairs --out made --direction back", "direction must be one of forward, not 'back'"),
        (
            "{folder}/large.png --out made --reference {folder}/large.png",
            "pix2pix takes no reference: it takes pictures",
        ),
        ("{folder}/large.png --out made --mask {folder}/large.png", "pix2pix takes no mask: it takes pictures alone"),
        ("{folder}/large.png --out made --tile 64", "pix2pix looks at the whole picture"),
        ("{folder}/large.png --out made --tile -1", "--tile must be at least 0, not -1"),
        ("{folder}/large.png --out made --sheet sheet.pdf", "--sheet must be a file that ends in"),
    ],
)
def test_says_what_is_wrong(run, folder, words, message, capsys):
    assert main(["translate", run, *words.format(folder=folder).split()]) == 2
    assert message in capsys.readouterr().err


def test_of_another_kind(run, folder, tmp_path, capsys):
    assert main(["sample", run]) == 2
    assert "makes nothing of random numbers; fastgan translate uses it" in capsys.readouterr().err
    small = "--steps 1 --batch-size 4 --samples 2 --resolution 16 --width 4 --device cpu --out sampling"
    assert main(["train", "dcgan", "--data", "digits", *small.split()]) == 0
    assert main(["translate", "sampling", str(folder / "large.png"), "--out", "made"]) == 2
    assert "trained by dcgan, which translates nothing: fastgan sample draws from it" in capsys.readouterr().err


def picture_of(path):
    return to_uint8(picture(Path(path), 3)[0])
