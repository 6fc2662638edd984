"""Classes of a conditional system in what the commands draw."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import fastgan.runs
from fastgan.cli import main
from fastgan.cli.drawing import cells, labels_of
from fastgan.data import load
from fastgan.systems import Generative, create, preset

SIDE, SPACE = 16, 2  # pixels of a cell, and between two


class Shades(Generative):
    """An image of a class is of one shade, 10 times the class."""

    name = "shades"

    def __init__(self):
        super().__init__(SimpleNamespace(channels=1, resolution=SIDE))
        self.classes = 4
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def phases(self):
        return []

    def latent(self, count, generator=None):
        return torch.randn(count, 3, generator=generator)

    def generate(self, latent, labels=None):
        assert labels is not None
        return (labels * 10 / 127.5 - 1).view(-1, 1, 1, 1).expand(-1, 1, SIDE, SIDE)


@pytest.fixture
def draw(monkeypatch, tmp_path):
    """The classes that a command draws, row by row: -1 where there is no image."""
    monkeypatch.setattr(fastgan.runs, "load", lambda *_, **__: Shades())

    def command(*arguments):
        path = tmp_path / "picture.png"
        name, *rest = arguments
        assert main([name, "run", *map(str, rest), "--out", str(path)]) == 0
        return np.array(Image.open(path).convert("L")), path

    return command


def shades(picture, columns, rows):
    height, width = picture.shape[0] / rows, picture.shape[1] / columns
    return [[int(picture[int((r + 0.5) * height), int((c + 0.5) * width)]) // 10 for c in range(columns)]
            for r in range(rows)]  # fmt: skip


class TestSample:
    def test_a_column_a_class(self, draw):
        picture, _ = draw("sample", "--count", 8)
        assert shades(picture, 4, 2) == [[0, 1, 2, 3]] * 2

    def test_those_asked_for(self, draw):
        picture, _ = draw("sample", "--count", 6, "--labels", "3,1")
        assert shades(picture, 2, 3) == [[3, 1]] * 3

    def test_one(self, draw):
        picture, _ = draw("sample", "--count", 4, "--labels", 2)
        assert shades(picture, 2, 2) == [[2, 2]] * 2

    def test_columns_of_ones_own(self, draw):
        picture, _ = draw("sample", "--count", 6, "--columns", 3)
        assert shades(picture, 3, 2) == [[0, 1, 2], [3, 0, 1]]

    def test_the_turn_goes_on_from_part_to_part(self):
        images = cells(Shades(), torch.zeros(70, 3), [0, 1, 2])
        assert [int(image.flatten()[0]) // 10 for image in images] == [i % 3 for i in range(70)]


def test_interpolate_keeps_the_class_of_a_way(draw):
    picture, _ = draw("interpolate", "--rows", 3, "--steps", 5, "--labels", "2,0")
    assert shades(picture, 5, 3) == [[2] * 5, [0] * 5, [2] * 5]


def test_arithmetic_draws_one_class(draw, capsys):
    picture, path = draw("arithmetic", "0 - 1", "--labels", 3)
    assert shades(picture, 5, 3) == [[3, 0, 0, 0, 3], [3, 0, 0, 0, 3], [3] * 5]
    assert main(["arithmetic", "run", "0 - 1", "--labels", "3,1", "--out", str(path)]) == 2
    assert "arithmetic draws one class, as --labels 3, not 3,1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("4", r"--labels takes numbers in 0\.\.3 with commas between them, as 0,1, not '4'"),
        ("-1", r"0\.\.3 .* not '-1'"),
        ("one", r"0\.\.3 .* not 'one'"),
        ("1,", r"0\.\.3 .* not ''"),
        ("", r"0\.\.3 .* not ''"),
    ],
)
def test_says_what_is_wrong(asked, message):
    with pytest.raises(ValueError, match=message):
        labels_of(Shades(), asked)


class TestNames:
    NAMES = ("10", "cats", "caf\u00e9", "dogs, small")

    def labels(self, asked):
        system = Shades()
        system.class_names = self.NAMES
        return labels_of(system, asked)

    @pytest.mark.parametrize(
        ("asked", "labels"),
        [
            (None, [0, 1, 2, 3]),
            ("cats", [1]),
            ("cats, 3,cats", [1, 3, 1]),
            ("10", [0]),  # the name first
            ("0,1", [0, 1]),
            ("cafe\u0301", [2]),  # as macOS writes it
            ("dogs, small", [3]),
            ('cats,"dogs, small"', [1, 3]),
        ],
    )
    def test_name_classes(self, asked, labels):
        assert self.labels(asked) == labels

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            (
                "cat",
                r"no class 'cat': did you mean 'cats'\? --labels takes names \(10, cats, .*\) or numbers in 0",
            ),
            ("4", r"there is no class '4': --labels takes names"),
        ],
    )
    def test_say_what_there_is(self, asked, message):
        with pytest.raises(ValueError, match=message):
            self.labels(asked)

    def test_draw(self, draw, monkeypatch, capsys):
        monkeypatch.setattr(Shades, "class_names", self.NAMES)
        picture, _ = draw("sample", "--count", 4, "--labels", "cats,10")
        assert shades(picture, 2, 2) == [[1, 0]] * 2
        assert "4 images; a column a class: cats, 10" in capsys.readouterr().out
        picture, _ = draw("arithmetic", "0 - 1", "--labels", "dogs, small")
        assert shades(picture, 5, 3) == [[3, 0, 0, 0, 3], [3, 0, 0, 0, 3], [3] * 5]


def test_training_takes_the_classes_of_the_data():
    data, given = load("emoji"), {"resolution": 16, "width": 2}
    assert preset("acgan", data, "paper", **given).options == {"channels": 3, "classes": len(data.classes)}
    assert len(data.classes) == 8
    assert "classes" not in preset("acgan", data, "paper", classes=12).options


def test_without_classes_there_are_no_labels():
    system = create("gan", resolution=1, channels=2, width=2)
    assert labels_of(system, None) == []
    with pytest.raises(ValueError, match="gan is not conditional: its samples have no classes, leave out --labels"):
        labels_of(system, "1")


def test_a_folder_names_the_class_of_each(monkeypatch, tmp_path):
    system = Shades()
    system.class_names = ("a cat", "tür/tor", "..", "4")
    monkeypatch.setattr(fastgan.runs, "load", lambda *_, **__: system)
    assert main(["sample", "run", "--count", "130", "--labels", "3,0,1,2", "--out", f"{tmp_path}/new/"]) == 0
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names[:4] == ["00000-4.png", "00001-a-cat.png", "00002-tür-tor.png", "00003-2.png"]
    assert names[-1] == "00129-a-cat.png"
    for name in names[0], names[1], names[-1], names[66]:
        with Image.open(tmp_path / "new" / name) as image:
            assert np.array(image)[0, 0] // 10 == {"4": 3, "a-cat": 0, "tür-tor": 1, "2": 2}[name[6:-4]]
