"""The initialisations against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fastgan.nn import ConvNormAct2d, NormAct2d, init


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(16, 64, 4), nn.BatchNorm2d(64), ConvNormAct2d(64, 64, 3, bias=True),
        nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.InstanceNorm2d(32, affine=True), nn.Flatten(), nn.Linear(100, 200),
        nn.BatchNorm1d(4, affine=False),
    )  # fmt: skip


SPREADS = {  # standard deviation of a weight from its fans
    "dcgan": lambda fan_in, fan_out: 0.02,
    "xavier": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "he": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "uniform": lambda fan_in, fan_out: 0.05 / math.sqrt(3),
    "normal": lambda fan_in, fan_out: 0.05,
}


@pytest.mark.parametrize("name", SPREADS)
def test_weights_have_the_spread_of_the_paper(name: str) -> None:
    net = network()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 7.0)
    assert getattr(init, name)(net) is net
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
            spread = SPREADS[name](fan_in, fan_out)
            assert module.weight.std().item() == pytest.approx(spread, rel=0.05)
            assert abs(module.weight.mean().item()) < spread / 20
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d | NormAct2d):
            assert not module.bias.any()
            if name == "dcgan":
                assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
                assert 0.01 < module.weight.std().item() < 0.03
            else:
                assert module.weight.eq(1).all()


def test_orthogonal() -> None:
    layer = init.orthogonal(nn.Conv2d(4, 8, 3), gain=2.0)
    matrix = layer.weight.flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, 4 * torch.eye(8), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_normalised_weights(new: bool) -> None:
    utils = nn.utils.parametrizations if new else nn.utils
    spectral = init.dcgan(utils.spectral_norm(nn.Conv2d(64, 64, 3)))
    raw = spectral.parametrizations.weight.original if new else spectral.weight_orig
    assert raw.std().item() == pytest.approx(0.02, rel=0.05)
    weight = init.dcgan(utils.weight_norm(nn.Conv2d(64, 64, 3)))
    weight(torch.zeros(1, 64, 3, 3))
    assert weight.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert weight.bias is not None
    assert not weight.bias.any()


def test_says_what_is_wrong() -> None:
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module and returns it, not Tensor"):
        init.dcgan(torch.ones(3))
    with pytest.raises(ValueError, match="LazyConv2d has no shape yet"):
        init.he(nn.LazyConv2d(3, 3))
