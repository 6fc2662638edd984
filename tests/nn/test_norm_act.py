"""The modules: the parameters, buffers and behaviour of torch.nn's, on the fused op."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import fastgan.nn as fnn

PAIRS = [
    (fnn.NormAct1d, nn.BatchNorm1d, (6, 5)),
    (fnn.NormAct1d, nn.BatchNorm1d, (6, 5, 3)),
    (fnn.NormAct2d, nn.BatchNorm2d, (6, 5, 3, 4)),
    (fnn.NormAct3d, nn.BatchNorm3d, (6, 5, 2, 3, 2)),
]


@pytest.mark.parametrize(("ours", "theirs", "shape"), PAIRS)
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.8, "momentum": 0.7}],
    ids=str,
)
def test_trains_and_evaluates_as_torch_nn(ours, theirs, shape, options) -> None:
    fused, plain = ours(5, "leaky_relu", 0.1, **options), nn.Sequential(theirs(5, **options), nn.LeakyReLU(0.1))
    for norm in (fused, plain[0]):
        torch.manual_seed(1)
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
    for step in range(4):
        if step == 3:
            fused.eval(), plain.eval()
        x = torch.randn(shape).mul_(2).add_(1).requires_grad_()
        y, z = fused(x), plain(x)
        torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
        grad = torch.randn(shape)
        ours_grad, theirs_grad = (torch.autograd.grad(t, [x, *net.parameters()], grad) for t, net in
                                  ((y, fused), (z, plain)))  # fmt: skip
        for a, b in zip(ours_grad, theirs_grad):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        state, expected = fused.state_dict(), plain[0].state_dict()
        assert state.keys() == expected.keys()
        for name in state:
            torch.testing.assert_close(state[name], expected[name])


def test_instance_norm_with_and_without_running_statistics() -> None:
    x = torch.randn(4, 3, 5, 5)
    for track in (False, True):
        fused = fnn.NormAct2d(3, "relu", norm="instance", affine=False, track_running_stats=track)
        plain = nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=track), nn.ReLU())
        for _ in range(2):
            torch.testing.assert_close(fused(x), plain(x))
        torch.testing.assert_close(fused.eval()(x), plain.eval()(x))
        if track:
            torch.testing.assert_close(fused.running_var, plain[0].running_var)


def test_loads_a_batch_norm() -> None:
    plain = nn.BatchNorm2d(3)
    nn.init.normal_(plain.weight)
    fused = fnn.NormAct2d(3)
    fused.load_state_dict(plain.state_dict())
    assert fused.weight.equal(plain.weight)


def test_prelu_learns_its_slope() -> None:
    module = fnn.NormAct2d(3, "prelu", 0.25)
    assert [name for name, _ in module.named_parameters()] == ["weight", "bias", "slope"]
    module(torch.randn(4, 3, 2, 2)).sum().backward()
    assert module.slope.grad is not None
    assert module.slope.grad.abs().sum() > 0


def test_splits_in_training_only() -> None:
    module = fnn.NormAct2d(3, "relu", splits=2)
    x = torch.cat([torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2) + 50])
    y = module(x)
    assert (y[:4] > 0).any(), "the halves were normalised together"
    assert module.eval()(x[:3]).shape == (3, 3, 2, 2), "an odd batch must pass in evaluation"


@pytest.mark.parametrize("make", [lambda: fnn.NormAct2d(3, "elu", 0.5), lambda: fnn.ConvNormAct2d(3, 4, 3),
                                  lambda: fnn.ConvTransposeNormAct2d(3, 4, 4, 2, 1, act="prelu")])  # fmt: skip
def test_copies_and_pickles(make) -> None:
    module, x = make(), torch.randn(2, 3, 6, 6)
    expected = copy.deepcopy(module)(x)
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["batch", "instance", None])
def test_convolution_blocks(norm) -> None:
    x = torch.randn(4, 3, 8, 8)
    norms = {"batch": nn.BatchNorm2d(5), "instance": nn.InstanceNorm2d(5, affine=True), None: nn.Identity()}
    how = {"norm": norm, "act": "leaky_relu", "slope": 0.2}
    convolution = fnn.ConvNormAct2d(3, 5, 4, 2, 1, **how), nn.Conv2d(3, 5, 4, 2, 1, bias=False)
    transposed = fnn.ConvTransposeNormAct2d(3, 5, 3, 2, 1, 1, **how), nn.ConvTranspose2d(3, 5, 3, 2, 1, 1, bias=False)
    for fused, conv in (convolution, transposed):
        fused.conv.load_state_dict(conv.state_dict())
        expected = nn.Sequential(conv, copy.deepcopy(norms[norm]), nn.LeakyReLU(0.2))
        torch.testing.assert_close(fused(x), expected(x), rtol=1e-4, atol=1e-5)


def test_a_negative_slope_still_has_its_gradient() -> None:
    """The one leaky_relu that cannot be done in place."""
    block = fnn.ConvNormAct2d(3, 5, 3, norm=None, act="leaky_relu", slope=-0.5)
    block(torch.randn(2, 3, 6, 6)).sum().backward()
    assert block.conv.weight.grad is not None


def test_says_what_it_is() -> None:
    text = repr(fnn.ConvNormAct2d(3, 8, 4, act="leaky_relu", slope=0.2))
    assert "act=leaky_relu, slope=0.2" in text
    assert "norm=batch" in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnn.NormAct2d(3, "gelu"), "unknown activation 'gelu'; accepted: none, relu"),
        (lambda: fnn.NormAct2d(3, norm="layer"), "unknown norm 'layer'; accepted: batch, instance"),
        (lambda: fnn.ConvNormAct2d(3, 4, 3, norm=None, act="swish"), "unknown activation 'swish'"),
        (lambda: fnn.NormAct2d(3)(torch.randn(2, 3)), r"NormAct2d takes 4-D input .* not shape \(2, 3\)"),
        (lambda: fnn.NormAct2d(3)(torch.randn(2, 4, 2, 2)), "weight has shape"),
    ],
)
def test_says_what_is_wrong(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
