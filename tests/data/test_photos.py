"""`photos`: whole photographs in settled parts, with credits, and windows of them."""

import importlib.util
from pathlib import Path

import pytest

from fastgan.data import Batches, Images, load
from fastgan.data.photos import PHOTOS

SCRIPT = Path(__file__).parents[2] / "tools" / "pack_photos.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("pack_photos", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_parts_are_settled(script):
    train, test = load("photos"), load("photos@test")
    assert (len(train), len(test)) == (9, 4)
    assert load("photos@train").listing() == train.listing()
    files = {str(file.relative_to(PHOTOS).with_suffix("")) for file in PHOTOS.glob("*/*.jpg")}
    assert files == {name for name, *_ in script.PHOTOS}


def test_gives_windows():
    batch = next(Batches(load("photos").adapted({"image": Images(3, 96, 96, fit="cut")}), 4, workers=0))
    assert batch.image.shape == (4, 3, 96, 96)
    assert load("photos@test", 32)[0][0].shape == (3, 32, 32)


def test_each_is_credited(script):
    credits = (PHOTOS.parent / "LICENSE-photos.txt").read_text()
    assert [name for name, *_ in script.PHOTOS if name not in credits] == []


def test_refuses_another_photograph(script, tmp_path):
    with pytest.raises(SystemExit, match="where it comes from"):
        script.packed(tmp_path / "x.jpg", "ab")
    (tmp_path / "x.jpg").write_bytes(b"another")
    with pytest.raises(SystemExit, match="SHA-256"):
        script.packed(tmp_path / "x.jpg", "ab")
