"""Sources: named fields; those of a group are drawn together, several groups apart; the same whatever the workers."""

import itertools

import pytest
import torch

from fastgan.data import Apart, Batches, Images, Labels, Source, Together, Vectors, load, source_of, to_uint8
from fastgan.data.source import Tensors
from tests.data.picture_files import folder

COUNT, OTHERS = 11, 7


def images(count, shift=0, channels=1):
    """(count, C, 2, 3) uint8, each image of its index plus `shift`, brighter to the right."""
    values = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1) + shift
    return (values + torch.tensor([0, 50, 100], dtype=torch.uint8)).expand(count, channels, 2, 3).clone()


def pairs():
    return Together("pairs", {"source": (images(COUNT), "image"), "target": (images(COUNT, 100), "image")})


def domain(name, count, shift=0):
    return Together(name, {name: (images(count, shift), "image")})


def domains():
    return Apart("domains", [domain("a", COUNT), domain("b", OTHERS, 100)])


class Items(torch.utils.data.Dataset):
    """Mappings of fields, as a user's data set may return them; an augmentation that draws."""

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        noise = torch.randint(50, (1, 2, 3), dtype=torch.uint8)
        return {"source": images(COUNT)[i], "target": noise, "point": torch.tensor([float(i), 0.5]), "label": i % 3}


def take(batches, count):
    return [dict(batch) for batch in itertools.islice(batches, count)]


def same(some, others):
    return len(some) == len(others) and all(
        list(x) == list(y) and all(torch.equal(x[name], y[name]) for name in x) for x, y in zip(some, others)
    )


def first(values):
    return to_uint8(values).amin((1, 2, 3)).tolist()  # whether mirrored or not


SOURCES = {"pairs": pairs, "domains": domains, "items": Items}


def test_whatever_batches_take_is_a_source(tmp_path):
    points = Tensors("points", {"vector": torch.rand(5, 2), "label": torch.arange(5)})
    for data in ("digits", load("ring"), images(4), list(images(4)), folder(tmp_path, 4), pairs(), domains(), points):
        source = source_of(data)
        assert isinstance(source, Source)
        assert source_of(source) is source
        assert [name for group in source.groups for name in group] == list(source.fields)
        assert list(next(Batches(data, 4))) == list(source.fields)
    assert points.fields == {"vector": Vectors(2), "label": Labels()}
    assert source_of(Items()).fields == {
        "source": Images(1, 2, 3), "target": Images(1, 2, 3), "point": Vectors(2), "label": Labels()
    }  # fmt: skip


@pytest.mark.parametrize("name", ["pairs", "items"])
def test_fields_of_a_group_are_drawn_and_mirrored_together(name):
    batches = Batches(SOURCES[name](), 4, flip=True, workers=0)
    mirrored = 0
    for batch in itertools.islice(batches, 20):
        if name == "pairs":
            assert first(batch.target) == [100 + i for i in first(batch.source)]
            assert torch.allclose(batch.target - batch.source, torch.tensor(100 / 127.5), atol=1e-6)
        else:
            assert first(batch.source) == batch.point[:, 0].tolist()
            assert [i % 3 for i in first(batch.source)] == batch.label.tolist()
        mirrored += int((batch.source[:, 0, 0, 0] > batch.source[:, 0, 0, 2]).sum())
    assert 20 < mirrored < 60


def test_groups_are_drawn_apart_each_in_epochs_of_its_own():
    batches = Batches(domains(), 3, seed=1)
    assert batches.count == COUNT
    taken = take(batches, 6)
    assert batches.state_dict() == {"epoch": 1, "position": 9, "others": [{"epoch": 2, "position": 6}]}
    for name, per_epoch, shift in (("a", 3, 0), ("b", 2, 100)):
        for epoch in range(6 // per_epoch):
            seen = [i for batch in taken[epoch * per_epoch :][:per_epoch] for i in first(batch[name])]
            assert len(set(seen)) == len(seen)
            assert all(shift <= i < shift + COUNT for i in seen)
    alone = take(Batches(domain("a", COUNT), 3, seed=1), 6)
    assert same([{"a": batch["a"]} for batch in taken], alone)
    as_first = take(Batches(domain("b", OTHERS, 100), 3, seed=1), 6)
    assert not same([{"b": batch["b"]} for batch in taken], as_first)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("consumed", [0, 1, 5])
def test_resumes_with_the_same_batches(name, consumed):
    straight = Batches(SOURCES[name](), 3, flip=True, workers=0)
    take(straight, consumed)
    resumed = Batches(SOURCES[name](), 3, flip=True, workers=1)
    resumed.load_state_dict(straight.state_dict())
    assert resumed.state_dict() == straight.state_dict()
    assert same(take(resumed, 7), take(straight, 7))


@pytest.mark.parametrize("name", SOURCES)
def test_ranks_share_the_batch_that_one_process_would_yield(name):
    whole = take(Batches(SOURCES[name](), 4, flip=True, workers=0), 7)
    parts = [take(Batches(SOURCES[name](), 4, flip=True, workers=0, rank=rank, ranks=2), 7) for rank in range(2)]
    together = [{key: torch.cat([x[key], y[key]]) for key in x} for x, y in zip(*parts)]
    assert same(together, whole)


@pytest.mark.parametrize("memory", [0, None])
@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_of_files_stay_pairs_where_one_cannot_be_read(tmp_path, memory, workers):
    for part in ("A", "B"):
        folder(tmp_path / part, 9, classes=())
    broken = tmp_path / "B" / "004.png"
    broken.write_bytes(broken.read_bytes()[:60])
    a, b = load(tmp_path / "A", 24), load(tmp_path / "B", 24)
    source = Together("pairs", {"source": (a, "image"), "target": (b, "image")})
    batches = Batches(source, 3, workers=workers, memory=memory, flip=True)
    for batch in itertools.islice(batches, 9):
        assert torch.equal(batch.source, batch.target)
    assert batches.problems() == ["004.png: truncated, left out"]


def test_adapted_has_the_wanted_fields_alone(tmp_path):
    pictures = load(folder(tmp_path, 4))
    for data in (pictures, load("emoji")):
        grey = source_of(data).adapted({"image": Images(1, 16, 16)})
        assert grey.fields == {"image": Images(1, 16, 16)}
        batch = next(Batches(grey, 4))
        assert list(batch) == ["image"]
        assert batch.image.shape == (4, 1, 16, 16)
    for make in (pairs, Items):
        assert list(next(Batches(source_of(make()).adapted({"target": Images(1, 2, 3)}), 4, workers=0))) == ["target"]
    one = source_of(domains()).adapted({"b": Images(1, 2, 3)})
    assert one.groups == (("b",),)
    assert Batches(one, 4).state_dict() == {"epoch": 0, "position": 0}


BAD = {
    "a field that is not there": (
        lambda: source_of(pairs()).adapted({"image": Images(1, 2, 3)}),
        r"pairs has no 'image'; it has source \(images of 3x2 pixels and 1 channel\), target \(",
    ),
    "a field of another kind": (
        lambda: load("digits").adapted({"label": Vectors(2)}),
        "'label' of digits must be vectors of 2 numbers, not labels of 10 classes",
    ),
    "another size in memory": (
        lambda: source_of(images(4)).adapted({"image": Images(1, 4, 4)}),
        "'image' of tensor must be images of 4x4 pixels and 1 channel, not images of 3x2 .* change it in your data set",
    ),
    "nothing wanted": (lambda: pairs().adapted({}), "at least one field must be wanted; pairs has source"),
    "unequal lengths": (
        lambda: Together("p", {"source": (images(4), "image"), "target": (images(5), "image")}),
        "p: fields that are drawn together need as many rows each, not 4 of 'source', 5 of 'target'",
    ),
    "a field twice": (lambda: Apart("p", [images(4), images(5)]).fields, "p: two parts have image: give each a name"),
    "a field that a part lacks": (lambda: Together("p", {"a": (images(4), "label")}), "tensor has no 'label'"),
    "no rows in a group": (
        lambda: Batches(Apart("p", [domain("a", 4), domain("b", 0)]), 2),
        "batch_size 2 is larger than a part of the data set, b, which has 0 images",
    ),
    "short batches of several groups": (
        lambda: Batches(domains(), 2, drop_last=False),
        "drop_last must be True with several groups",
    ),
    "no items": (lambda: source_of([]).fields, "list has no items"),
    "the state of another data set": (
        lambda: Batches(domains(), 2).load_state_dict({"epoch": 0, "position": 2}),
        "the state must hold epoch and others and position, not epoch, position",
    ),
    "groups too few": (
        lambda: Batches(domains(), 2).load_state_dict({"epoch": 0, "position": 2, "others": []}),
        "places of 1 further groups of fields, not 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_says_what_is_wrong(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()
