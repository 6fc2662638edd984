"""What can only be iterated: shuffled in blocks, every item once an epoch, resumed exactly."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch.utils.data import IterableDataset

from fastgan.data import Batches, stream, to_uint8


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 16)


class Count(IterableDataset):
    """Images filled with 0, 1, 2, ..., the label modulo 3; random rows where `augment`."""

    def __init__(self, length, augment=False):
        self.length = length
        self.augment = augment

    def __iter__(self):
        shift = int(torch.randint(256, ())) if self.augment else 0
        for i in range(self.length):
            image = torch.full((3, 5, 5), i, dtype=torch.uint8)
            if self.augment:
                image[0, 1] = shift
                image[0, 0] = torch.randint(256, (5,))
            yield image, i % 3


class Plain:
    """Not of torch, and told of the epoch."""

    epoch = -1

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter([torch.full((1, 2, 2), 10 * self.epoch + i, dtype=torch.uint8) for i in range(8)])


def take(batches, count):
    return [(batch.image, batch.get("label")) for batch in itertools.islice(batches, count)]


def same(some, others):
    return len(some) == len(others) and all(
        torch.equal(x, y) and torch.equal(a, b) for (x, a), (y, b) in zip(some, others)
    )


def values(taken):
    return [i for images, _ in taken for i in to_uint8(images)[:, 1, 1, 1].tolist()]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("length", [4, 16, 35, 64])
@pytest.mark.parametrize("drop_last", [True, False])
def test_an_epoch_has_every_item_once_with_its_label(workers, length, drop_last):
    batches = Batches(Count(length), 4, workers=workers, drop_last=drop_last)
    assert batches.count is None
    per_epoch = length // 4 if drop_last else -(-length // 4)
    taken = take(batches, 2 * per_epoch)
    for epoch in (taken[:per_epoch], taken[per_epoch:]):
        seen = values(epoch)
        assert len(seen) == len(set(seen)) == (length // 4 * 4 if drop_last else length)
        assert [i % 3 for i in seen] == [label for _, labels in epoch for label in labels.tolist()]
        for block in range(0, len(seen), 16):
            assert {i // 16 for i in seen[block : block + 16]} == {block // 16}
    assert values(taken[:per_epoch]) != values(taken[per_epoch:])
    assert batches.state_dict() == {"epoch": 1, "position": 4 * per_epoch if drop_last else length}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("consumed", [0, 1, 3, 4, 8, 9, 11])
def test_resumes_with_the_same_batches(workers, drop_last, consumed):
    def make():
        return Batches(Count(35, augment=True), 4, seed=2, flip=True, workers=workers, drop_last=drop_last)

    expected = take(make(), 24)
    batches = make()
    assert same(take(batches, consumed), expected[:consumed])
    resumed = make()
    resumed.load_state_dict(batches.state_dict())
    assert resumed.state_dict() == batches.state_dict()
    assert same(take(resumed, 24 - consumed), expected[consumed:])


def test_workers_and_global_generators_change_nothing():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    expected = take(Batches(Count(35, augment=True), 4, workers=0), 12)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(take(Batches(Count(35, augment=True), 4, workers=1), 12), expected)
    assert not same(take(Batches(Count(35, augment=True), 4, workers=0, seed=1), 12), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_tells_the_epoch(workers):
    taken = [batch.image for batch in itertools.islice(Batches(Plain(), 8, workers=workers), 3)]
    for epoch, images in enumerate(taken):
        assert sorted(to_uint8(images)[:, 0, 0, 0].tolist()) == [10 * epoch + i for i in range(8)]


def test_ranks_take_every_other_item():
    for length in (64, 67):
        parts = [Batches(Count(length), 4, rank=rank, ranks=2, workers=0) for rank in range(2)]
        taken = [take(part, length // 4) for part in parts]
        assert [sorted(values(part)) for part in taken] == [list(range(0, 64, 2)), list(range(1, 64, 2))]
        assert parts[0].state_dict() == parts[1].state_dict() == {"epoch": 0, "position": 64}


AGREE = """
import sys, torch, torch.distributed as dist
from fastgan.data import Batches, stream
stream.BLOCK = 16
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)

class Part(stream.StreamPictures):
    def items(self, epoch, skip, rank, ranks):
        return iter(range(skip, (40, 27)[rank]))  # shares of one stream differ, as shards do
    def read(self, item):
        return {"image": torch.full((1, 2, 2), item, dtype=torch.uint8)}, []

batches = Batches(Part("part", (), 2, 1), 4, rank=rank, ranks=2, workers=0)
states = [tuple(batches.state_dict().values()) for _ in zip(range(30), batches)]
print(states)
resumed = Batches(Part("part", (), 2, 1), 4, rank=rank, ranks=2, workers=0)
resumed.load_state_dict({"epoch": 0, "position": 48})
print([tuple(resumed.state_dict().values()) for _ in zip(range(18), resumed)] == states[12:])
dist.destroy_process_group()
"""


@pytest.mark.processes
def test_ranks_leave_an_epoch_together(tmp_path):
    command = [sys.executable, "-c", AGREE]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    # 13 batches of two images are the shorter share's.
    expected = [(epoch, 4 * k) for epoch in range(3) for k in range(1, 14)][:30]
    assert printed[0] == printed[1] == f"{expected}\nTrue\n"


@pytest.mark.parametrize("workers", [0, 1])
def test_says_what_is_wrong(workers):
    with pytest.raises(ValueError, match="the stream gave less than one batch of 4 images in epoch 0"):
        next(Batches(Count(3), 4, workers=workers))
    with pytest.raises(ValueError, match="no multiple of batch_size 4: a stream goes on only with"):
        Batches(Count(16), 4).load_state_dict({"epoch": 0, "position": 6})


class Breaks(Count):
    def __iter__(self):
        yield from itertools.islice(super().__iter__(), 18)
        raise OSError("the line is dead")


class Swapped(Count):
    def __iter__(self):
        return (image.permute(1, 2, 0) for image, _ in super().__iter__())


@pytest.mark.parametrize("workers", [0, 1])
def test_names_the_item_that_cannot_be_used(workers):
    batches = Batches(Breaks(64), 4, workers=workers)
    take(batches, 4)
    with pytest.raises(RuntimeError, match=r"item 18 of the stream cannot be read: OSError\('the line is dead'\)"):
        next(batches)
    assert batches.state_dict() == {"epoch": 0, "position": 16}
    with pytest.raises(ValueError, match=r"item \d+ of the stream: channels, height, width seem to be swapped"):
        next(Batches(Swapped(64), 4, workers=workers))
