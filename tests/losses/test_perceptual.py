import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan.losses import Perceptual
from fastgan.pretrained import features


@pytest.fixture
def small():
    return features("small")


def images(seed: int) -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("distance", "function"), [("mse", F.mse_loss), ("l1", F.l1_loss)])
def test_it_is_the_mean_of_the_distances_of_maps(small, distance, function):
    made, real = images(0), images(1)
    found = Perceptual(small, ["stage2", "stage4"], distance)(made, real)
    a, b = small(made), small(real)
    torch.testing.assert_close(found, (function(a[1], b[1]) + function(a[3], b[3])) / 2)
    assert Perceptual(small)(made, made) == 0


def test_gradients_go_to_what_was_made_alone(small):
    made, real = images(0).requires_grad_(), images(1).requires_grad_()
    Perceptual(small)(made, real).backward()
    assert made.grad.abs().sum() > 0
    assert real.grad is None
    assert all(parameter.grad is None for parameter in small.parameters())


def test_its_weights_are_in_no_state(small):
    owner = nn.Module()
    owner.loss = Perceptual(small)
    assert not owner.state_dict()
    assert not list(owner.parameters())


def test_it_goes_where_the_pictures_are(small):
    made, real = images(0).double().requires_grad_(), images(1).double()
    loss = Perceptual(small)(made, real)
    assert loss.dtype == torch.float64
    assert torch.autograd.gradcheck(
        lambda x: Perceptual(small, ["stage1"])(x, real[:1, :, :4, :4]), made[:1, :, :4, :4]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": ["relu9"]}, "layers must be of stage1, stage2, stage3, stage4, not relu9"),
        ({"layers": []}, "not none"),
        ({"distance": "l3"}, "distance must be mse or l1, not 'l3'"),
    ],
)
def test_says_what_is_wrong(small, given, message):
    with pytest.raises(ValueError, match=message):
        Perceptual(small, **given)


def test_pictures_of_two_shapes(small):
    with pytest.raises(ValueError, match="must have one shape"):
        Perceptual(small)(images(0), images(0)[:1])
