"""What of a data set a training has not seen."""

import pytest
import torch

from fastgan.data import save_png, to_uint8
from fastgan.data.kept import kept
from tests.systems.every import noise, small


@pytest.mark.parametrize(
    ("name", "judged", "seen"),
    [
        ("photos", "photos@test", False),
        ("photos@train", "photos@test", False),
        ("photos@test", "photos@test", True),
        ("digits", "digits@test", True),  # which are drawn from the whole
        ("digits@train", "digits@test", False),
        ("photos=>digits", "photos@test=>digits@test", True),
        ("photos=>digits@train", "photos@test=>digits@test", False),
        ("ring", "ring", True),  # which has no parts
    ],
)
def test_what_is_judged_on(name, judged, seen):
    found = kept(name)
    assert (found.data.name, found.seen) == (judged, seen)


def test_folders_that_say_their_parts(tmp_path):
    images = noise(small("dcgan"), 4).images
    for number, image in enumerate(to_uint8(images)):
        part = tmp_path / "pictures" / ("test" if number == 3 else "train")
        part.mkdir(parents=True, exist_ok=True)
        save_png(part / f"{number}.png", image)
    found = kept(str(tmp_path / "pictures"))
    assert len(found.data) == 1
    whole = kept(str(tmp_path / "pictures" / "train"))
    assert whole.seen


@pytest.mark.parametrize(
    ("trained_on", "judged", "seen"),
    [
        ("{0}=>{1}", "{0}@test=>{1}@test", True),
        ("{0}=>{1}@train", "{0}@test=>{1}@test", False),
        ("{0}@train", "{0}@test", False),
        ("{0}@test", "{0}@test", True),
        ("{0}=>{1}@test", "{0}@test=>{1}@test", True),
    ],
)
def test_folders(tmp_path, trained_on, judged, seen):
    for side in "AB":
        (tmp_path / side).mkdir()
        for number in range(20):
            save_png(tmp_path / side / f"{number}.png", torch.zeros(3, 8, 8, dtype=torch.uint8))
    sides = str(tmp_path / "A"), str(tmp_path / "B")
    found = kept(trained_on.format(*sides))
    assert (found.data.name, found.seen) == (judged.format(*sides), seen)


def test_of_what_is_not_there():
    with pytest.raises(ValueError, match="unknown data set 'photographs'"):
        kept("photographs")
