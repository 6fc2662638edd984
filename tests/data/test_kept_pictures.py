"""Pictures are decoded once and stay on the device, where all of them fit; the batches are the same either way."""

import itertools

import pytest
import torch

from fastgan.data import Batches, load, readers
from fastgan.data.lazy import LazyPictures
from tests.data.picture_files import folder


def take(batches, count):
    return [(batch.image, batch.get("label")) for batch in itertools.islice(batches, count)]


def same(some, others):
    return len(some) == len(others) and all(
        torch.equal(x, y) and torch.equal(a, b) for (x, a), (y, b) in zip(some, others)
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return load(folder(tmp_path_factory.mktemp("pictures"), 23), 12)


@pytest.fixture
def reads(monkeypatch):
    """The indices that were decoded in this process."""
    seen = []
    read = LazyPictures.read
    monkeypatch.setattr(LazyPictures, "read", lambda self, index: seen.append(index) or read(self, index))
    return seen


OPTIONS = {"flip": True, "seed": 4}


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_batches_are_the_same(source, workers, drop_last):
    expected = take(Batches(source, 4, workers=0, memory=0, drop_last=drop_last, **OPTIONS), 20)
    batches = Batches(source, 4, workers=workers, drop_last=drop_last, **OPTIONS)
    assert same(take(batches, 20), expected)
    for (images, _), (others, _) in zip(take(batches, 2), expected):
        assert images.stride() == others.stride()


def test_every_picture_is_decoded_once(source, reads):
    batches = Batches(source, 4, workers=0, **OPTIONS)
    take(batches, 5)
    assert len(set(reads)) == len(reads) == 20
    batches.load_state_dict({"epoch": 0, "position": 2})
    take(batches, 30)
    assert sorted(reads) == list(range(23))


def test_all_or_nothing(source, reads):
    size = 23 * 3 * 12 * 12
    take(Batches(source, 23, workers=0, memory=size), 3)
    assert len(reads) == 23
    del reads[:]
    take(Batches(source, 23, workers=0, memory=size - 1), 3)
    assert len(reads) == 3 * 23


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("consumed", [1, 3, 5, 7, 11])
def test_resumes_and_goes_back(source, workers, consumed):
    expected = take(Batches(source, 4, workers=0, memory=0, **OPTIONS), 18)
    batches = Batches(source, 4, workers=workers, **OPTIONS)
    take(batches, consumed)
    state = batches.state_dict()
    resumed = Batches(source, 4, workers=workers, **OPTIONS)
    resumed.load_state_dict(state)
    assert same(take(resumed, 18 - consumed), expected[consumed:])
    batches.load_state_dict({"epoch": 0, "position": 0})
    assert same(take(batches, 18), expected)
    batches.load_state_dict({"epoch": 0, "position": 2})
    assert same(take(batches, 5), take_from(source, 2, 5))


def take_from(source, position, count):
    batches = Batches(source, 4, workers=0, memory=0, **OPTIONS)
    batches.load_state_dict({"epoch": 0, "position": position})
    return take(batches, count)


@pytest.mark.parametrize("far", [1, 2, 256])
def test_ranks(source, monkeypatch, far):
    """A rank meets its last pictures after many epochs: the loader is kept in step meanwhile."""
    monkeypatch.setattr(readers, "FAR_AHEAD", far)
    whole = take(Batches(source, 4, workers=0, memory=0, **OPTIONS), 60)
    for rank in range(4):
        part = take(Batches(source, 4, workers=1, rank=rank, ranks=4, **OPTIONS), 60)
        assert same(part, [(images[rank : rank + 1], labels[rank : rank + 1]) for images, labels in whole])


def test_workers_end_once_everything_is_there(source):
    batches = Batches(source, 4, workers=2, **OPTIONS)
    next(batches)
    workers = batches._readers[0].loaded.workers
    assert all(worker.is_alive() for worker in workers)
    take(batches, 15)
    assert not any(worker.is_alive() for worker in workers)


def test_an_interrupted_batch_is_read_again(source, monkeypatch):
    expected = take(Batches(source, 4, workers=0, memory=0, **OPTIONS), 15)
    batches = Batches(source, 4, workers=1, **OPTIONS)
    got = take(batches, 2)
    put = readers.Store.put

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(readers.Store, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    monkeypatch.setattr(readers.Store, "put", put)
    assert same(got + take(batches, 13), expected)


def test_what_is_free_bounds_the_memory(monkeypatch):
    monkeypatch.setattr(readers, "free_memory", lambda: 4000)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert readers.default_memory(torch.device("cpu")) == 1000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert readers.default_memory(torch.device("cpu")) == 250
    monkeypatch.setattr(readers, "free_memory", lambda: 1 << 50)
    assert readers.default_memory(torch.device("cpu")) == 4 << 30
    monkeypatch.undo()
    assert 0 < readers.free_memory() < 1 << 50
