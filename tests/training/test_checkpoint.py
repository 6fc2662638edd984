"""Checkpoint files: whole or not at all, and never a wrong byte."""

import os
import pickle
import resource
import signal
import zipfile

import pytest
import torch

from fastgan.runs.checkpoint import CorruptCheckpoint, load, previous, save


def state(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "weights": torch.randn(4, 3, 5, 5, generator=generator).to(memory_format=torch.channels_last),
        "nested": {"betas": (0.5, 0.999), "none": None, "names": ["a", "b"]},
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


def test_round_trip(path):
    save(path, state(3))
    loaded = load(path)
    assert torch.equal(loaded["weights"], state(3)["weights"])
    assert loaded["weights"].stride() == state(3)["weights"].stride()
    assert loaded["nested"] == state(3)["nested"]
    assert os.listdir(path.parent) == ["checkpoint.pt"]


def test_is_an_ordinary_torch_file(path):
    save(path, state(3))
    assert torch.load(path, weights_only=True)["step"] == 3
    assert zipfile.ZipFile(path).testzip() is None


def test_the_one_before_is_kept(path):
    for step in (1, 2, 3):
        save(path, state(step))
    assert load(path)["step"] == 3
    assert load(previous(path))["step"] == 2
    assert sorted(os.listdir(path.parent)) == ["checkpoint.previous.pt", "checkpoint.pt"]


def test_without_hard_links(path, monkeypatch):
    def refuse(*args):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    save(path, state(1))
    save(path, state(2))
    assert load(path)["step"] == 2
    assert load(previous(path))["step"] == 1
    path.unlink()  # as if killed between the two renames
    assert load(path)["step"] == 1


class TestCorruption:
    def check(self, path, damaged):
        path.write_bytes(damaged)
        with pytest.raises(CorruptCheckpoint, match=rf"corrupt.*last good one is {previous(path)}"):
            load(path)
        assert load(previous(path))["step"] == 1

    @pytest.fixture
    def good(self, path):
        save(path, state(1))
        save(path, state(2))
        return path.read_bytes()

    def test_every_truncation(self, path, good):
        for length in [*range(0, len(good), 97), len(good) - 1]:
            self.check(path, good[:length])

    def test_every_flipped_byte(self, path, good):
        positions = [*range(0, len(good), 53), *range(len(good) - 100, len(good))]
        for position in positions:
            damaged = bytearray(good)
            damaged[position] ^= 0x10
            self.check(path, bytes(damaged))

    def test_appended_bytes(self, path, good):
        self.check(path, good + b"\0")

    def test_both_damaged(self, path, good):
        path.write_bytes(good[:-1])
        previous(path).write_bytes(good[:-1])
        with pytest.raises(CorruptCheckpoint, match="no good one beside it"):
            load(path)

    def test_code_in_place_of_tensors_is_not_run(self, path, tmp_path):
        marker = tmp_path / "ran"

        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(marker),)

        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(CorruptCheckpoint, match="not a checkpoint"):
            load(path)
        save(path, {"bomb": Bomb()})  # with a checksum that is right
        with pytest.raises(CorruptCheckpoint, match="refused"):
            load(path)
        assert not marker.exists()


def test_missing(path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load(path)


def test_another_format(path):
    save(path, {"format": 99})
    with pytest.raises(ValueError, match=r"checkpoint format 2 or 3, .* not 99: go on with the version that wrote it"):
        load(path)


def test_a_full_disk_leaves_the_one_before(path):
    save(path, state(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not write the checkpoint .*the one before stays"):
            save(path, {"step": 2, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert load(path)["step"] == 1
    assert os.listdir(path.parent) == ["checkpoint.pt"]
