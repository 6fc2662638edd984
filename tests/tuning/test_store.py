"""The cache outlives processes, survives accidents, and is never believed on another machine."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import warnings

import pytest
import torch

from fastgan import tuning
from fastgan.tuning import store

KEY = ((64, 512, 3), torch.bfloat16, (), "NCHW", True)
ENTRY = {"choice": "mm", "milliseconds": {"torch": 2.0, "mm": 1.0}}


@pytest.fixture
def written(cache):
    threads = torch.get_num_threads()
    assert store.write({("op", KEY, threads): ENTRY}) == store.path()
    return store.path()


def answer() -> str:
    tuning.forget()
    return tuning.choice("op", KEY, "default")


def test_what_is_written_is_answered(written):
    assert answer() == "mm"
    assert tuning.choice("op", (*KEY[:-1], False), "default") == "default"
    assert tuning.choice("other", KEY, "default") == "default"
    assert tuning.found() == {("op", KEY, torch.get_num_threads()): "mm"}
    assert [path.name for path in written.parent.iterdir() if path.suffix == ".tmp"] == []


def test_for_its_number_of_threads_only(written):
    torch.set_num_threads(2)
    assert answer() == "default"
    torch.set_num_threads(1)
    assert answer() == "mm"


def test_no_cache_is_no_complaint(cache):
    assert answer() == "default"
    assert not cache.exists()


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"{", b"\xff\xfe\x00", b"[]", b"null", b"[" * 100_000, b'{"machine": 1}', b'{"choices": []}',
        '"choices": [1]', '"choices": [{"op": "op"}]', '"choices": {"op": "mm"}',
        '"choices": [{"op": "op", "key": [1], "threads": 1, "choice": 5, "milliseconds": {}}]',
        '"choices": [{"op": "op", "key": [{"a": 1}], "threads": 1, "choice": "mm", "milliseconds": {}}]',
        '"choices": [{"op": "op", "key": ["torch.nn"], "threads": 1, "choice": "mm", "milliseconds": {}}]',
        '"choices": [{"op": "op", "key": ["torch.none"], "threads": 1, "choice": "mm", "milliseconds": {}}]',
    ],
    ids=lambda damage: str(damage)[:40],
)  # fmt: skip
def test_corrupt_caches_are_ignored_with_one_warning_and_rewritten(written, damage):
    if isinstance(damage, str):
        damage = f'{{"machine": {json.dumps(store.machine())}, {damage}}}'.encode()
    if damage == b'{"machine": 1}':  # another machine's, which is no damage
        written.write_bytes(damage)
        assert answer() == "default"
        return
    written.write_bytes(damage)
    with pytest.warns(UserWarning, match=r"cannot be read and is ignored.*fastgan\.tune. rewrites it") as caught:
        assert answer() == "default"
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tuning.choice("op", KEY, "default") == "default"  # the warning is given once
        store.write({("op", KEY, torch.get_num_threads()): ENTRY})
        assert answer() == "mm"


def test_truncated_at_any_byte(written):
    whole = written.read_bytes()
    for length in range(0, len(whole) - 2, 7):
        written.write_bytes(whole[:length])
        with pytest.warns(UserWarning, match="cannot be read"):
            assert answer() == "default"


@pytest.mark.parametrize("field", ["processor", "isa", "features", "torch", "fastgan", "format"])
def test_from_another_machine_or_version(written, field, monkeypatch):
    other = {**store.machine(), field: "another"}
    monkeypatch.setattr(store, "machine", lambda: other)
    assert store.path() != written
    assert answer() == "default"
    shutil.copy(written, store.path())  # even under the name of this one
    assert answer() == "default"
    store.write({("op", (1,), 1): ENTRY})
    assert list(store.read()) == [("op", (1,), 1)]


def test_read_only(written, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store.os, "replace", refuse)
    with pytest.warns(UserWarning, match="cannot be written.*this process only.*Permission denied") as caught:
        assert store.write({("op", (1,), 1): ENTRY}) is None
    assert len(caught) == 1
    assert answer() == "mm"


def test_a_folder_that_cannot_be(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="cannot be written"):
        assert store.write({("op", (1,), 1): ENTRY}) is None
    with pytest.warns(UserWarning, match="cannot be read"):
        assert answer() == "default"


def test_a_write_that_fails_leaves_the_cache_whole(written, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", fail)
    with pytest.warns(UserWarning, match="No space left"):
        store.write({("op", (1,), 1): ENTRY})
    assert answer() == "mm"
    assert sorted(path.suffix for path in written.parent.iterdir()) == [".json", ".lock"]


def _write(number, barrier):
    barrier.wait()
    for i in range(5):
        if store.write({("op", (number, i), 1): ENTRY}) is None:
            raise SystemExit(1)


def test_ten_processes_at_once(cache):
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(10)
    processes = [fork.Process(target=_write, args=(number, barrier)) for number in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 10
    assert sorted(key for _, key, _ in store.read()) == [(number, i) for number in range(10) for i in range(5)]
    assert [path.suffix for path in cache.iterdir() if path.suffix == ".tmp"] == []


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.folder() == tmp_path / "fastgan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.folder() == tmp_path / ".cache" / "fastgan"
