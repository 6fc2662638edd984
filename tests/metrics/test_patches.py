"""What a new discriminator tells apart, and what it does not."""

import math

import pytest
import torch
import torch.nn.functional as F

from fastgan.data import to_uint8
from fastgan.metrics import evaluate
from fastgan.metrics.patches import patch_divergence


def spots(count, seed, blur=1):
    """Random pixels, blurred: (count, 1, 16, 16) uint8."""
    random = torch.Generator().manual_seed(seed)
    values = (torch.rand(count, 1, 16, 16, generator=random) < 0.3).float()
    return to_uint8(F.avg_pool2d(values, blur, 1, blur // 2) * 2 - 1)


@pytest.fixture(scope="module")
def real():
    return spots(120, 0)


@pytest.mark.slow
def test_none_of_the_same_kind_and_all_of_another(real):
    assert abs(patch_divergence(real, spots(120, 1))) < 0.05
    assert patch_divergence(real, spots(120, 1, blur=3)) == pytest.approx(math.log(2), abs=0.05)


@pytest.mark.slow
def test_more_the_more_are_of_another(real):
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    half = torch.cat([spots(60, 1), spots(60, 2, blur=3)])[order]
    divergence = patch_divergence(real, half)
    expected = (math.log(4 / 3) + math.log(2 / 3) / 2 + math.log(2) / 2) / 2  # of P and (P + Q) / 2, P and Q apart
    assert divergence == pytest.approx(expected, abs=0.1)


@pytest.mark.slow
def test_is_a_metric_that_the_best_can_be_told_by(real):
    state = torch.get_rng_state()
    scores = evaluate(spots(60, 1, blur=3), real, metrics=["patch_divergence"], seed=5)
    assert scores.values == {"patch_divergence": pytest.approx(math.log(2), abs=0.05)}
    assert "features" not in scores.protocol
    assert "patch_divergence" not in evaluate(real, real, features=lambda x: x.flatten(1).float()).values  # takes long
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("count", "side", "message"),
    [(19, 16, "at least 20 pictures of each kind to learn from, not 19"), (40, 12, "a generated picture")],
)
def test_says_what_is_wrong(real, count, side, message):
    with pytest.raises(ValueError, match=message):
        patch_divergence(real, spots(count, 1)[:, :, :side, :side])
