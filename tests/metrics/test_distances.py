"""Frechet and kernel distance against closed forms, SciPy and sums written out."""

import itertools

import numpy as np
import pytest
import torch
from scipy import linalg

from fastgan.metrics import frechet, frechet_distance, kernel, kernel_distance


def normal(count, width, seed=0, dtype=torch.float64):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def exactly(mean, covariance):
    """A set of features with this mean and unbiased covariance, but for rounding."""
    width = len(mean)
    features = normal(4 * width, width)
    features = features - features.mean(0)
    white = features @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(features.t()))).t()
    return white @ torch.linalg.cholesky(covariance).t() + mean


class TestFrechet:
    def test_of_gaussians_that_commute(self):
        """Diagonal covariances: sum of (m1 - m2)^2 + (s1 - s2)^2."""
        m1, m2 = torch.tensor([1.0, -2, 3], dtype=torch.float64), torch.tensor([0.0, 1, 3], dtype=torch.float64)
        s1, s2 = torch.tensor([1.0, 0.5, 2], dtype=torch.float64), torch.tensor([3.0, 0.5, 1e-3], dtype=torch.float64)
        expected = ((m1 - m2) ** 2 + (s1 - s2) ** 2).sum().item()
        got = frechet_distance(exactly(m1, torch.diag(s1**2)), exactly(m2, torch.diag(s2**2)))
        assert got == pytest.approx(expected, rel=1e-12)

    def test_against_the_square_root_of_scipy(self):
        a, b = normal(300, 20) @ normal(20, 20, 1), normal(200, 20, 2) @ normal(20, 20, 3) + 0.3
        (m1, c1), (m2, c2) = ((x.mean(0).numpy(), np.cov(x.numpy(), rowvar=False)) for x in (a, b))
        expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("count", [2, 10, 64, 500])
    def test_equal_sets(self, count):
        a = normal(count, 64)
        assert frechet_distance(a, a[torch.randperm(count)]) == pytest.approx(0, abs=1e-9)

    def test_moved_set_with_fewer_samples_than_features(self):
        a = normal(5, 100)
        assert frechet_distance(a, a + 0.1) == pytest.approx(100 * 0.01, rel=1e-9)

    def test_singular_covariances(self):
        """Constant and repeated features; all samples equal."""
        a, b = normal(50, 6), normal(50, 6, 1)
        a[:, 3], b[:, 3], a[:, 4], b[:, 4] = 2, 2, a[:, 0], b[:, 0]
        small = frechet_distance(a[:, [0, 1, 2, 5]], b[:, [0, 1, 2, 5]])
        assert small < frechet_distance(a, b) < 3 * small
        one = normal(1, 6).expand(30, 6)
        assert frechet_distance(one, one + 2) == pytest.approx(24)
        spread = frechet_distance(one, a) - (one[0] - a.mean(0)).square().sum().item()
        assert spread == pytest.approx(a.var(0).sum().item())

    def test_symmetric_and_in_parts(self, monkeypatch):
        a, b = normal(400, 8), 2 * normal(300, 8, 1)
        whole = frechet_distance(a, b)
        assert frechet_distance(b, a) == pytest.approx(whole, rel=1e-12)
        monkeypatch.setattr(frechet, "ROWS", 17)
        assert frechet_distance(a, b) == pytest.approx(whole, rel=1e-12)

    def test_a_large_mean_loses_nothing(self):
        a, b = normal(400, 8), 2 * normal(300, 8, 1)
        assert frechet_distance(a + 1e4, b + 1e4) == pytest.approx(frechet_distance(a, b), rel=1e-8)


def by_sums(x, y):
    def k(a, b):
        return (float(a @ b) / x.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


class TestKernel:
    def test_against_sums(self, monkeypatch):
        monkeypatch.setattr(kernel, "BLOCK", 45)
        x, y = normal(13, 4), normal(9, 4, 1) + 0.5
        assert kernel_distance(x, y) == pytest.approx(by_sums(x, y), rel=1e-12)

    def test_is_unbiased(self):
        """Of samples of one distribution, 0 on average; the same with a bias would be positive every time."""
        values = [kernel_distance(normal(20, 3, 2 * seed), normal(20, 3, 2 * seed + 1)) for seed in range(300)]
        assert abs(np.mean(values)) < 4 * np.std(values) / 300**0.5
        assert min(values) < 0 < max(values)

    def test_subsets(self):
        x, y = normal(60, 3), normal(50, 3, 1) + 1
        whole = kernel_distance(x, y)
        assert kernel_distance(x, y, subsets=50, size=30) == pytest.approx(whole, rel=0.1)
        assert kernel_distance(x, y, subsets=2, size=30) == kernel_distance(x, y, subsets=2, size=30)
        assert kernel_distance(x, y, subsets=2, size=30) != kernel_distance(x, y, subsets=2, size=30, seed=1)
        assert kernel_distance(x, y[torch.randperm(50)], subsets=1, size=50) != whole
        assert kernel_distance(x[:50], y, subsets=1, size=50) == pytest.approx(kernel_distance(x[:50], y))
        with pytest.raises(ValueError, match="subsets of 51 cannot be taken of 60 real and 50 generated"):
            kernel_distance(x, y, subsets=1, size=51)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
class TestBoth:
    def test_dtypes(self, distance):
        a, b = normal(40, 5), normal(40, 5, 1)
        assert distance(a.float(), b.float()) == pytest.approx(distance(a.float().double(), b.float().double()))

    @pytest.mark.parametrize(
        ("real", "fake", "error", "message"),
        [
            (normal(9, 3), normal(9, 4), ValueError, "features of one network have one length, not real 3, fake 4"),
            (normal(1, 3), normal(9, 3), ValueError, "real has 1 samples, at least 2 are needed"),
            (normal(9, 3), normal(9, 3)[0], ValueError, r"fake must be features \(N, D\), not shape \(3,\)"),
            (normal(9, 3).long(), normal(9, 3), TypeError, "real must be a floating-point tensor.*torch.int64"),
            (normal(9, 3), [1.0], TypeError, "fake must be a floating-point tensor.*list"),
            (normal(9, 3), normal(9, 3) * torch.nan, ValueError, "fake holds NaN or infinity"),
        ],
    )
    def test_says_what_is_wrong(self, distance, real, fake, error, message):
        with pytest.raises(error, match=message):
            distance(real, fake)
