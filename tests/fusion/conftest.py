from __future__ import annotations

import copy

import pytest
import torch

from fastgan import backend, fuse
from fastgan.fusion import calls


class Calls:
    """Counts the calls of the fused op. Without the compiled library PyTorch's modules run and there are none."""

    def __init__(self) -> None:
        self.count = 0

    def take(self) -> int:
        count, self.count = self.count, 0
        return count

    def expected(self, count: int) -> int:
        return count if backend.choose("norm_act", "cpu") == "native" else 0


@pytest.fixture
def op(monkeypatch):
    counted = Calls()
    original = calls.apply_norm

    def apply_norm(*args, **kwargs):
        counted.count += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(calls, "apply_norm", apply_norm)
    return counted


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pair():
    """A network fused, and an unfused copy of it."""

    def make(network):
        plain = copy.deepcopy(network)
        return fuse(network), plain

    return make
