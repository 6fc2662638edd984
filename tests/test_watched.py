"""What keeps a layer's own call, by the one predicate that everything asks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from fastgan import nn as fnn
from fastgan import watched

LAYERS = {
    "convolution": lambda: nn.Conv2d(3, 3, 1),
    "linear": lambda: nn.Linear(3, 3),
    "norm": lambda: nn.BatchNorm2d(3),
    "activation": lambda: nn.ReLU(),
    "pooling": lambda: nn.AvgPool2d(2),
}
CHANGES = {
    "a forward hook": (lambda layer: layer.register_forward_hook(lambda *args: None), "has a hook"),
    "a hook before": (lambda layer: layer.register_forward_pre_hook(lambda *args: None), "has a hook"),
    "a backward hook": (lambda layer: layer.register_full_backward_hook(lambda *args: None), "has a hook"),
    "a hook before backward": (lambda layer: layer.register_full_backward_pre_hook(lambda *args: None), "has a hook"),
    "its own compilation": (lambda layer: layer.compile(), "is compiled by itself"),
    "its own forward": (lambda layer: setattr(layer, "forward", copy.copy), "has another forward than PyTorch's"),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_change_of_a_layer(make, change, reason):
    layer = make()
    assert watched.changed(layer) == ""
    assert not watched.watched(layer)
    change(layer)
    assert watched.changed(layer) == reason
    assert watched.watched(layer)


def test_another_forward_of_the_class(monkeypatch):
    layer, conv = nn.Linear(3, 3), nn.Conv2d(3, 3, 1)
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x)
    conv._conv_forward = lambda *args: None
    assert watched.changed(layer) == watched.changed(conv) == "has another forward than PyTorch's"


def test_what_computes_a_weight_is_no_change():
    conv, linear = (nn.utils.spectral_norm(layer) for layer in (nn.Conv2d(3, 3, 1), nn.Linear(3, 3)))
    assert watched.changed(conv) == ""
    assert watched.changed(linear) == "has a hook"  # nothing that replaces its call would run it
    assert watched.changed(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))) == ""


def test_hooks_of_all_modules():
    layer = nn.ReLU()
    handle = register_module_forward_hook(lambda *args: None)
    try:
        assert watched.observed()
        assert watched.watched(layer)
        assert not watched.changed(layer)
        assert not watched.operations()
    finally:
        handle.remove()
    assert not watched.observed()


def test_transforms_of_operations():
    seen = []
    torch.func.vmap(lambda x: seen.append((watched.observed(), watched.operations())) or x)(torch.ones(2))
    assert seen == [(True, True)]


CHANGES_OF_A_BLOCK = {name: change for name, (change, _) in CHANGES.items()}
# A call of the function would leave it out.
CHANGES_OF_A_BLOCK["a hook that computes its weight"] = nn.utils.spectral_norm


@pytest.mark.parametrize("change", CHANGES_OF_A_BLOCK.values(), ids=CHANGES_OF_A_BLOCK)
def test_a_block_calls_its_convolution(monkeypatch, change):
    block = fnn.ConvNormAct2d(3, 3, 1)
    called = []
    monkeypatch.setattr(nn.Conv2d, "__call__", lambda self, x: called.append(1) or x)
    x = torch.randn(2, 3, 4, 4)
    block(x)
    assert not called
    change(block.conv)
    block(x)
    assert called
