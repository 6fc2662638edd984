"""`fluent`: pairs of a drawing in black and in colors, and its settled parts."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fastgan.data import Batches, Images, load
from fastgan.data.fluent import ASSETS, family, pictures

SCRIPT = Path(__file__).parents[2] / "tools" / "render_fluent.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("render_fluent", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parts():
    return {part: load(f"fluent@{part}") for part in ("train", "test")}


def test_holds_pairs_with_names(parts):
    train = parts["train"]
    assert {name: tuple(values.shape[1:]) for name, values in train.tensors.items()} == {
        "source": (1, 128, 128), "target": (3, 128, 128), "image": (3, 128, 128), "text": (10,),
    }  # fmt: skip
    assert train.tensors["target"].data_ptr() == train.tensors["image"].data_ptr()
    assert len(train) + len(parts["test"]) == len(pictures()) == 1594


def test_the_name_alone_is_the_training_part(parts):
    assert torch.equal(load("fluent").tensors["source"], parts["train"].tensors["source"])
    with pytest.raises(ValueError, match="fluent has no side B"):
        load("fluent:B")


def test_a_row_is_one_drawing(parts):
    """Black lines lie within what is colored, give or take their width: of another drawing far fewer do."""
    for part in parts.values():
        drawn = part.tensors["source"][:, 0] < 64
        inside = (part.tensors["target"] != 255).any(1)
        near = F.max_pool2d(inside.float()[:, None], 9, 1, 4)[:, 0] > 0
        own = (drawn & near).sum((1, 2)) / drawn.sum((1, 2))
        other = (drawn & near.roll(1, 0)).sum((1, 2)) / drawn.sum((1, 2))
        assert own.mean() > 0.95
        assert other.mean() < 0.85


def test_text_belongs_to_the_picture(parts):
    train = parts["train"]
    names = train._of["text"][0].captions
    blue = train.tensors["image"][names.index("blue heart"), :, 64, 64].int()
    assert blue[2] > blue[0] + 50
    assert set(train.fields["text"].words) == set(parts["test"].fields["text"].words)


def test_variants_of_a_drawing_are_in_one_part():
    assert family("man astronaut") == family("woman astronaut") == "astronaut"
    assert family("four oclock") == family("nine thirty")
    assert family("waning gibbous moon") == family("new moon face")
    assert family("blue heart") == family("green heart") != family("blue book")
    tests, trains = ({family(c) for c in load(f"fluent@{p}")._of["text"][0].captions} for p in ("test", "train"))
    assert not tests & trains
    assert 140 <= len(load("fluent@test")) <= 200


def test_gives_what_a_system_wants(parts):
    pairs = parts["test"].adapted({"source": Images(3, 32, 32), "target": Images(3, 32, 32)})
    batch = next(Batches(pairs, 4, flip=True))
    assert batch.source.shape == batch.target.shape == (4, 3, 32, 32)
    assert load("fluent@test", 32, 3).fields["source"] == Images(3, 32, 32)


def test_index_is_ordered(script):
    assert [name for name, _, _ in pictures()] == sorted(name for name, _, _ in pictures())
    assert (ASSETS / "fluent.json").read_text(encoding="utf-8") == script.as_json(pictures())
    assert json.loads(script.as_json(pictures()[:2]))["pictures"][1] == list(pictures()[1])
    assert {caption: code for _, code, caption in pictures()}["grinning face"] == "1f600"


def test_refuses_another_package(script, tmp_path):
    with pytest.raises(SystemExit, match=r"no iconify.*npm pack"):
        script.read(tmp_path, script.PACKS[0])
    (tmp_path / script.PACKS[0].file).write_bytes(b"not the package")
    with pytest.raises(SystemExit, match="SHA-256"):
        script.read(tmp_path, script.PACKS[0])


def test_ships_with_its_licence():
    assert "Copyright (c) Microsoft Corporation." in (ASSETS / "LICENSE-fluent.txt").read_text()
