"""Activations computed again instead of kept: the same bits, less memory."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastgan
from fastgan import ops, recomputation
from fastgan.fusion.paired import is_one_pass
from fastgan.nn import ConvNormAct2d, ConvTransposeNormAct2d

native = pytest.mark.skipif(
    fastgan.backend.choose("norm_act", "cpu", "auto") != "native", reason="what PyTorch computes is not computed again"
)


def network(norm: str = "batch", act: str = "leaky_relu") -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        ConvNormAct2d(3, 16, 4, 2, 1, norm=None, act="leaky_relu"),
        ConvNormAct2d(16, 32, 4, 2, 1, norm=norm, act=act),
        ConvNormAct2d(32, 48, 3, 1, 1, norm=norm, act=act),
        ConvTransposeNormAct2d(48, 8, 4, 2, 1, norm=norm, act=act),
        nn.Conv2d(8, 1, 3),
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def images() -> Tensor:
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1)).contiguous(
        memory_format=torch.channels_last
    )


def gradients(model: nn.Module, x: Tensor, penalty: bool = False, autocast: bool = False) -> list[Tensor]:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(x)
    loss = F.softplus(logits.float()).mean()
    if penalty:
        (grad,) = torch.autograd.grad(logits.float().sum(), x, create_graph=True)
        loss = loss + grad.square().sum()
    return [loss, *torch.autograd.grad(loss, [x, *model.parameters()])]


@pytest.mark.parametrize("penalty", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("act", ["relu", "leaky_relu", "prelu", "tanh"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_same_bits(penalty, autocast, norm, act, training):
    model = network(norm, act).train(training)
    expected = gradients(model, images(), penalty, autocast)
    with fastgan.recompute():
        got = gradients(model, images(), penalty, autocast)
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.equal(theirs)


@native
def test_only_the_forward_pass_needs_the_context():
    model, x = network(), images()
    expected = gradients(model, x)
    with fastgan.recompute():
        loss = F.softplus(model(x)).mean()
    for mine, theirs in zip(torch.autograd.grad(loss, list(model.parameters())), expected[2:], strict=True):
        assert mine.equal(theirs)


@native
def test_results_are_not_kept():
    x = torch.randn(4, 16, 8, 8, requires_grad=True)
    weight = torch.randn(8, 16, 3, 3, requires_grad=True)

    def alive() -> weakref.ref:
        y = ops.norm_act(x, act="relu")
        alive.loss = F.conv2d(y, weight).sum() + F.conv2d(y, weight).square().sum()
        return weakref.ref(y.untyped_storage())

    before = alive()
    assert before() is not None  # the convolutions keep it
    with fastgan.recompute():
        now = alive()
    gc.collect()
    assert now() is None
    calls, function = [], torch.ops.fastgan.norm_act_apply.default
    recipe = next(iter(recomputation._recipes.values()))
    recipe.function = lambda *inputs: calls.append(1) or function(*inputs)
    alive.loss.backward(retain_graph=True)
    first = weight.grad.clone()
    assert calls
    weight.grad = None
    alive.loss.backward()
    assert weight.grad.equal(first)
    alive.loss = recipe = None
    gc.collect()
    assert not recomputation._recipes


@native
def test_what_backward_has_used_is_freed():
    weight = torch.randn(8, 16, 3, 3, requires_grad=True)
    x = torch.randn(4, 16, 8, 8, requires_grad=True) * 1.0
    held = weakref.ref(x.untyped_storage())
    with fastgan.recompute():
        loss = F.conv2d(ops.norm_act(x, act="relu"), weight).sum()
    loss.backward()
    del x
    gc.collect()
    assert held() is None  # though `loss` and its graph are there


@native
def test_views_of_a_result():
    x = torch.randn(4, 8, 4, 4, requires_grad=True)
    weight = torch.randn(5, 128, requires_grad=True)

    def run():
        y = ops.norm_act(x, act="relu")
        return torch.autograd.grad(F.linear(y.flatten(1), weight).square().sum(), (x, weight))

    expected = run()
    with fastgan.recompute():
        got = run()
    for mine, theirs in zip(got, expected):
        assert mine.equal(theirs)


@native
def test_a_result_that_was_overwritten_is_kept_as_it_is():
    x = torch.randn(4, 8, 4, 4, requires_grad=True)
    weight = torch.randn(5, 8, 3, 3, requires_grad=True)

    def run():
        y = ops.norm_act(x).mul_(3)
        return torch.autograd.grad(F.conv2d(y, weight).square().sum(), (x, weight))

    expected = run()
    with fastgan.recompute():
        got = run()
    for mine, theirs in zip(got, expected):
        assert mine.equal(theirs)


@native
@pytest.mark.parametrize("changed", ["input", "weight"])
def test_says_what_was_changed(changed):
    x, gamma = torch.randn(4, 8, 4, 4), torch.ones(8, requires_grad=True)
    weight = torch.randn(5, 8, 3, 3, requires_grad=True)
    with fastgan.recompute():
        loss = F.conv2d(ops.norm_act(x, gamma, act="relu"), weight).sum()
    with torch.no_grad():
        (x if changed == "input" else gamma).add_(1)
    with pytest.raises(RuntimeError, match="changed in place after the forward pass"):
        loss.backward()


def test_without_gradients_nothing_is_remembered():
    with fastgan.recompute(), torch.no_grad():
        y = network()(images())
    assert not hasattr(y, "_fastgan_recipe")
    assert not recomputation._recipes


def test_contexts_nest_and_end():
    assert not recomputation.active()
    with fastgan.recompute(), fastgan.recompute():
        assert recomputation.active()
    with pytest.raises(KeyError), fastgan.recompute():
        raise KeyError
    assert not recomputation.active()


def test_real_and_fake_pass_by_themselves():
    discriminator, x = network(), images()
    assert is_one_pass(discriminator, x, x)
    with fastgan.recompute():
        assert not is_one_pass(discriminator, x, x)
