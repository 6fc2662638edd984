"""BiasAct: what follows a convolution that has no bias of its own."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import fastgan.nn as fnn

PLAIN = {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.1), "elu": nn.ELU(0.1), "tanh": nn.Tanh(), "silu": nn.SiLU()}


@pytest.mark.parametrize("act", PLAIN)
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 3, 4), (6, 5, 2, 3, 2)])
def test_is_a_bias_and_an_activation(act: str, shape: tuple[int, ...]) -> None:
    module, x = fnn.BiasAct(5, act, 0.1), torch.randn(shape, requires_grad=True)
    assert [(name, p.shape) for name, p in module.named_parameters()] == [("bias", (5,))]
    assert module.bias.eq(0).all()
    nn.init.normal_(module.bias)
    y, z = module(x), PLAIN[act](x + module.bias.view(-1, *[1] * (x.dim() - 2)))
    torch.testing.assert_close(y, z)
    grad = torch.randn(shape)
    torch.testing.assert_close(*(torch.autograd.grad(t, (x, module.bias), grad) for t in (y, z)))


def test_takes_the_bias_of_a_convolution() -> None:
    conv, module = nn.Conv2d(3, 8, 3), fnn.BiasAct(8, "leaky_relu", 0.2)
    module.load_state_dict({"bias": conv.bias})
    bare = nn.Conv2d(3, 8, 3, bias=False)
    bare.load_state_dict({"weight": conv.weight})
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(module(bare(x)), nn.functional.leaky_relu(conv(x), 0.2), rtol=1e-4, atol=1e-5)


def test_gain_clamp_and_no_bias() -> None:
    module, x = fnn.BiasAct(3, "leaky_relu", 0.2, gain=2**0.5, clamp=1.0, bias=False), torch.randn(4, 3, 2, 2)
    assert dict(module.named_parameters()) == {}
    torch.testing.assert_close(module(x), (nn.functional.leaky_relu(x, 0.2) * 2**0.5).clamp(-1, 1))
    before = x.clone()
    fnn.BiasAct(3)(x)
    assert torch.equal(x, before)


def test_prelu_learns_its_slope() -> None:
    module = fnn.BiasAct(3, "prelu", 0.25)
    assert [name for name, _ in module.named_parameters()] == ["bias", "slope"]
    module(torch.randn(4, 3, 2, 2)).sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_copies_pickles_and_moves() -> None:
    module, x = fnn.BiasAct(3, "elu", 0.5, gain=1.5), torch.randn(2, 3, 6, 6)
    expected = copy.deepcopy(module)(x)
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), expected)
    half = module.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert fnn.BiasAct(3, device="meta", dtype=torch.float64).bias.dtype == torch.float64


def test_says_what_it_is() -> None:
    assert repr(fnn.BiasAct(8)) == "BiasAct(8, act=relu)"
    text = repr(fnn.BiasAct(8, "leaky_relu", 0.1, gain=2.0, clamp=256.0, bias=False))
    assert text == "BiasAct(8, act=leaky_relu, slope=0.1, gain=2.0, clamp=256.0, bias=False)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.BiasAct(3, "gelu"), "unknown activation 'gelu'; accepted: none, relu"),
        (lambda: fnn.BiasAct(3)(torch.randn(2, 4)), r"takes input \(N, 3, \*\), not shape \(2, 4\)"),
        (lambda: fnn.BiasAct(3)(torch.randn(3)), r"takes input \(N, 3, \*\), not shape \(3,\)"),
        (lambda: fnn.BiasAct(3, gain=0.0)(torch.randn(2, 3)), "gain must be a number > 0"),
    ],
)
def test_says_what_is_wrong(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
