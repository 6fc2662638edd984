"""Data sets of Hugging Face `datasets`, all of them local: what is read, and that streams resume exactly."""

import itertools
import sys

import pytest
import torch

from fastgan.data import Batches, load, stream, to_uint8
from tests.data.picture_files import encoded, folder, picture, pixels

datasets = pytest.importorskip("datasets")

COUNT = 22


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(stream, "BLOCK", 8)
    datasets.disable_progress_bars()


def rows(label="class", bad=()):
    images = [{"bytes": b"" if i in bad else encoded(picture(i), "PNG"), "path": None} for i in range(COUNT)]
    labels = [i % 2 for i in range(COUNT)]
    features = {"caption": datasets.Value("string"), "image": datasets.Image()}
    columns = {"caption": [f"picture {i}" for i in range(COUNT)], "image": images}
    if label == "class":
        features["label"] = datasets.ClassLabel(names=["even", "odd"])
        columns["label"] = labels
    elif label:
        features["label"] = datasets.Value(label)
        columns["label"] = [f"{['even', 'odd'][i]}" if label == "string" else 7 * i for i in labels]
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture
def tables(tmp_path):
    """The same rows in every kind of file."""
    root = tmp_path / "tables"
    rows().to_parquet(root / "rows.parquet")
    rows().save_to_disk(root / "saved")
    datasets.DatasetDict({"train": rows(), "test": rows().select(range(8))}).save_to_disk(root / "splits")
    (root / "several").mkdir()
    for i in range(2):
        rows().select(range(11 * i, 11 * i + 11)).to_parquet(root / "several" / f"train-{i}.parquet")
    return root


NAMES = ["{}/rows.parquet", "hf:{}/rows.parquet", "{}/saved", "hf:{}/saved", "hf:{}/splits", "{}/several"]
NAMES += ["{}/saved/data-00000-of-00001.arrow", "hf:{}/splits@train"]


@pytest.mark.parametrize("name", NAMES)
def test_rows_become_pictures(tables, name):
    data = load(name.format(tables), 24, 3)
    assert (len(data), data.classes, data.name) == (COUNT, ("even", "odd"), name.format(tables))
    assert data.captions == tuple(f"picture {i}" for i in range(COUNT))
    assert load(name.format(tables)).shape == (3, 24, 24)
    for i in (0, 7, 21):
        image, label = data[i]
        assert torch.equal(image, torch.from_numpy(pixels(i)).permute(2, 0, 1))
        assert label == i % 2
    assert data.resize(8).with_channels(1)[0][0].shape == (1, 8, 8)


def test_splits(tables):
    assert len(load(f"hf:{tables}/splits@test", 8)) == 8
    for name in ("splits", "rows.parquet"):
        with pytest.raises(ValueError, match=r"cannot load hf:.*: .*no split tests"):
            load(f"hf:{tables}/{name}@tests")


def test_a_folder_of_pictures_by_datasets(tmp_path):
    folder(tmp_path / "pictures", 6)
    data = load(f"hf:{tmp_path}/pictures", 24, 3)
    assert (len(data), data.classes) == (6, ("cats", "dogs"))
    [image] = [image for image, label in (data[i] for i in range(6)) if torch.equal(image, tensor(pixels(3)))]
    assert image.shape == (3, 24, 24)


def tensor(array):
    return torch.from_numpy(array).permute(2, 0, 1)


@pytest.mark.parametrize(("label", "classes"), [("string", ("even", "odd")), ("int64", ("0", "7")), (None, ())])
def test_labels_without_names(label, classes):
    data = load(rows(label), 8)
    assert data.classes == classes
    assert [data[i][1] for i in range(2)] == ([0, 1] if label else [None, None])


@pytest.mark.parametrize("source", [lambda: load(rows(), 24), rows], ids=["loaded", "given to Batches"])
def test_batches(source):
    taken = list(itertools.islice(Batches(source(), 11, workers=0), 2))
    images = torch.cat([to_uint8(batch.image) for batch in taken])
    labels = torch.cat([batch.get("label") for batch in taken]).tolist()
    expected = [tensor(pixels(i)) for i in range(COUNT)]
    found = [next(i for i in range(COUNT) if torch.equal(image, expected[i])) for image in images]
    assert sorted(found) == list(range(COUNT))
    assert labels == [i % 2 for i in found]


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_rows_are_named_and_replaced(workers):
    for data in (rows(bad={3}), rows(bad={3}).to_iterable_dataset()):
        batches = Batches(load(data, 24, 3), 11, workers=workers)
        taken = [to_uint8(batch.image) for batch in itertools.islice(batches, 4)]
        assert {len(images) for images in taken} == {11}
        [line] = batches.problems()
        assert line in ("row 3: not a picture, left out", "row 3 of the stream: not a picture, left out")
        assert sum(torch.equal(image, tensor(pixels(4))) for image in torch.cat(taken)) == 4


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("consumed", [1, 2, 4, 5, 7])
def test_streams_resume(tables, workers, consumed):
    def make():
        return Batches(load(f"hf-stream:{tables}/several", 12, 3), 4, workers=workers, flip=True, seed=1)

    expected = [(batch.image, batch.get("label")) for batch in itertools.islice(make(), 12)]
    batches = make()
    for _ in range(consumed):
        next(batches)
    resumed = make()
    resumed.load_state_dict(batches.state_dict())
    for images, labels in expected[consumed:]:
        batch = next(resumed)
        assert torch.equal(batch.image, images)
        assert torch.equal(batch.get("label"), labels)


def values(batches, count):
    expected = [tensor(pixels(i)) for i in range(COUNT)]
    images = torch.cat([to_uint8(batch.image) for batch in itertools.islice(batches, count)])
    return [next(i for i in range(COUNT) if torch.equal(image, expected[i])) for image in images]


@pytest.mark.parametrize("name", ["hf-stream:{}/rows.parquet", "hf-stream:{}/several", "hf-stream:{}/saved"])
def test_streams_are_shared_by_ranks(tables, name):
    data = load(name.format(tables), 24, 3)
    assert (data.classes, data.captions) == (("even", "odd"), ())
    parts = [values(Batches(data, 4, rank=rank, ranks=2, workers=0), 5) for rank in range(2)]
    assert len(set(parts[0] + parts[1])) == 20
    resumed = Batches(data, 4, rank=1, ranks=2, workers=0)
    resumed.load_state_dict({"epoch": 0, "position": 12})
    assert values(resumed, 2) == parts[1][6:]


def test_a_stream_can_be_iterated():
    images = [image for image, _ in load(rows(bad={0}).to_iterable_dataset(), 24, 3)]
    assert len(images) == COUNT - 1
    assert torch.equal(images[0], tensor(pixels(1)))


def test_says_what_is_wrong(tmp_path):
    with pytest.raises(OSError, match=r"cannot load hf:nowhere/nothing: .* a name on the hub, which must be reachable"):
        load("hf:nowhere/nothing")
    with pytest.raises(ValueError, match="no column of images, only caption"):
        load(rows(None).select_columns(["caption"]))
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises((ValueError, OSError), match=r"cannot load .*broken.parquet: "):
        load(tmp_path / "broken.parquet")


def test_a_row_without_a_label_among_others_with_one():
    table = rows("int64").to_dict() | {"label": [None] + [1] * (COUNT - 1)}
    data = load(datasets.Dataset.from_dict(table, features=rows("int64").features), 8)
    with pytest.raises(ValueError, match="row 0 has no label: choose another split"):
        data[1]


def test_names_the_remedy_without_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"which is missing .*pip install datasets"):
        load("hf:anything")


class TestGuesses:
    """Which column and which split is taken is said where there are others."""

    def test_columns(self):
        data = rows().add_column("fine_label", [i % 3 for i in range(COUNT)])
        assert load(data, 8, 3).remarks == [
            "Dataset: classes are taken from the column label, not from fine_label; to choose otherwise, give load the "
            "data set without it: dataset.remove_columns('label')"
        ]
        assert load(data.remove_columns("label"), 8, 3).classes == ("0", "1", "2")
        masks = [{"bytes": encoded(picture(i), "PNG"), "path": None} for i in range(COUNT)]
        twice = rows(None).add_column("mask", masks, feature=datasets.Image())
        [line] = load(twice, 8, 3).remarks
        assert "pictures are taken from the column image, not from mask" in line
        assert load(rows(), 8, 3).remarks == []

    def test_a_stream_without_named_classes(self, tmp_path):
        rows("string").to_parquet(tmp_path / "a.parquet")
        data = load(f"hf-stream:{tmp_path}/a.parquet", 8, 3)
        assert data.classes == ()
        [line] = data.remarks
        assert "the column label gives no classes, since a stream names them in a ClassLabel column only" in line
        assert load(f"hf:{tmp_path}/a.parquet", 8, 3).classes == ("even", "odd")

    def test_splits(self, tmp_path):
        parts = {"train": rows(), "test": rows()}
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
        (tmp_path / "files").mkdir()
        for name, part in parts.items():
            part.to_parquet(tmp_path / "files" / f"{name}.parquet")
        [line] = load(f"hf:{tmp_path}/saved", 8, 3).remarks
        assert line == f"hf:{tmp_path}/saved: the split train is taken, not test; hf:NAME@SPLIT takes another"
        [line] = load(f"hf:{tmp_path}/saved@test", 8, 3).remarks
        assert "the split test is taken, not train" in line
        [line] = load(f"{tmp_path}/files", 8, 3).remarks
        assert "the files test.parquet, train.parquet are taken as one data set; to train on one of them alone" in line
        assert len(load(f"{tmp_path}/files")) == 2 * COUNT
        assert load(f"{tmp_path}/files/train.parquet", 8, 3).remarks == []


class TestIdentity:
    def test_of_tables(self, tmp_path):
        from fastgan.data.identity import identity

        rows().to_parquet(tmp_path / "a.parquet")
        same = identity(load(tmp_path / "a.parquet", 8, 3)), identity(rows())
        assert same[0] == same[1]
        assert same[0]["classes"] == ["even", "odd"]
        others = rows(bad=(0,)), rows("string"), rows().select(range(COUNT - 1)), rows().sort("label")
        digests = {identity(other)["digest"] for other in (rows(), *others)}
        assert len(digests) == 5 - 1  # the labels of a column of text are the same numbers
        stream = identity(load(f"hf-stream:{tmp_path}/a.parquet", 8, 3))
        assert stream == {"classes": ["even", "odd"], "digest": ""}
