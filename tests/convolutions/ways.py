"""What the tests of compiled ways to compute a convolution's products share."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest
import torch

from fastgan import tuning
from fastgan.convolutions import rules

OPS = ("correlate", "spread", "weight_gradient")


def watched(monkeypatch: pytest.MonkeyPatch, module: ModuleType, way: str) -> SimpleNamespace:
    """Takes this way for every product that it can compute; says in `calls` which were."""
    state = SimpleNamespace(calls=[])
    monkeypatch.setattr(rules, "fastest", lambda layer: (way,) * 3)
    monkeypatch.setattr(rules, "LEAST_WORK", dict.fromkeys(rules.LEAST_WORK, 0))

    def watch(name):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: state.calls.append(name) or original(*args))

    for name in OPS:
        watch(name)
    return state


def own_cache(module: ModuleType, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """The body of a fixture: nothing was tuned, and nothing is left behind."""
    if not module._compiled():
        pytest.skip("the extension is not built")
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    tuning.forget()
    yield
    tuning.forget()


def theirs(layer, large, small, weight):
    """The three products by PyTorch, in the order of OPS."""
    settings = layer.stride, layer.padding, (1, 1), False, (0, 0), 1
    gradients = torch.ops.aten.convolution_backward(small, large, weight, None, *settings, (True, True, False))
    return [torch.convolution(large, weight, None, *settings), *gradients[:2]]


def on(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    """The rules choose as on a processor that has these."""
    monkeypatch.setattr(rules, "features", lambda: frozenset(features))
    monkeypatch.setattr(rules, "_fastest", getattr(rules._fastest, "__wrapped__", rules._fastest))  # keeps no answers
