from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

from fastgan import backend, fuse, ops
from fastgan.convolutions import merged, rules
from fastgan.fusion.patterns import activation, bias_act, norm_act


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
    original = norm_act.apply_norm

    def apply_norm(*args, **kwargs):
        counted.count += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(norm_act, "apply_norm", apply_norm)
    return counted


@pytest.fixture
def bias_op(monkeypatch):
    """Counts the calls of bias_act after a convolution. They are made even where its kernel was not built: the op then
    computes the same from PyTorch's own ops."""
    counted = Calls()
    original = ops.bias_act

    def counting(z, *args, **kwargs):
        counted.count += 1
        y = original(z, *args, **kwargs)
        counted.overwrote = y is z
        return y

    def choose(op, device, named="auto"):
        return "native" if op == "bias_act" and named == "auto" else backend.choose(op, device, named)

    for module in (bias_act, activation):
        monkeypatch.setattr(module, "ops", SimpleNamespace(bias_act=counting))
        monkeypatch.setattr(module, "_backend", SimpleNamespace(choose=choose))
    return counted


@pytest.fixture(autouse=True)
def small_maps_too(monkeypatch):
    """And every activation in float64, in which most tests compare."""
    monkeypatch.setattr(bias_act, "SLOW_IN_FLOAT64", ())
    monkeypatch.setattr(bias_act, "LEAST_ELEMENTS", (0, 0))
    monkeypatch.setattr(merged, "LEAST", dict.fromkeys(merged.LEAST, rules.Least(0, 0, 0)))


@pytest.fixture
def pair():
    """A network fused, and an unfused copy of it."""

    def make(network):
        plain = copy.deepcopy(network)
        return fuse(network), plain

    return make
