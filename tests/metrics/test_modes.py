"""class_balance and mixture_modes."""

import math

import pytest
import torch

from fastgan.data import load
from fastgan.metrics import class_balance, mixture_modes


class TestClasses:
    def test_divergence(self):
        real, fake = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
        assert class_balance(real, fake, 2) == (2, pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5)))

    def test_equal(self):
        labels = torch.arange(30) % 3
        assert class_balance(labels, labels.flip(0)[:27], 3) == (3, pytest.approx(0, abs=1e-12))

    def test_one_class(self):
        assert class_balance(torch.arange(40) % 4, torch.full((7,), 2), 4) == (1, pytest.approx(math.log(4)))

    def test_a_class_that_the_data_lack(self):
        assert class_balance(torch.tensor([0, 0]), torch.tensor([0, 1]), 3) == (2, math.inf)

    @pytest.mark.parametrize(
        ("real", "fake", "error", "message"),
        [
            (torch.tensor([0.0]), torch.tensor([0]), TypeError, "real must be a tensor of integer labels.*float32"),
            (torch.tensor([0]), torch.tensor([3]), ValueError, r"fake must be at least one label \(N,\) in 0..2"),
            (torch.tensor([0]), torch.tensor([-1]), ValueError, "fake must be"),
            (torch.tensor([], dtype=torch.int64), torch.tensor([0]), ValueError, "real must be"),
        ],
    )
    def test_says_what_is_wrong(self, real, fake, error, message):
        with pytest.raises(error, match=message):
            class_balance(real, fake, 3)


class TestModes:
    def test_counts(self):
        centres = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
        points = torch.tensor([[0.0, 0.29], [0.0, -0.2], [0.31, 0.0], [1.0, 0.1], [2.0, 2.0]])
        assert mixture_modes(points, centres, 0.1) == (2, pytest.approx(3 / 5))

    @pytest.mark.parametrize(("name", "modes"), [("ring", 8), ("grid", 25)])
    def test_of_the_data_themselves(self, name, modes):
        """Within three deviations lie 1 - exp(-9 / 2) of a Gaussian of two dimensions."""
        data = load(name)
        covered, share = mixture_modes(data.points, data.centres, data.deviation)
        assert covered == modes
        assert share == pytest.approx(1 - math.exp(-4.5), abs=0.004)
        one = data.points[data.labels == 3]
        assert mixture_modes(one, data.centres, data.deviation).covered == 1

    def test_none(self):
        data = load("ring")
        assert mixture_modes(torch.zeros(10, 2), data.centres, data.deviation) == (0, 0)

    def test_says_what_is_wrong(self):
        with pytest.raises(ValueError, match="deviation must be a positive number, not 0"):
            mixture_modes(torch.zeros(3, 2), torch.zeros(1, 2), 0)
        with pytest.raises(ValueError, match="one length, not points 2, centres 3"):
            mixture_modes(torch.zeros(3, 2), torch.zeros(1, 3), 1)
