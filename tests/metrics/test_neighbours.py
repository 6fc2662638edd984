"""Metrics of nearest neighbours against all distances written out."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from fastgan.metrics import density_coverage, memorisation, nearest, neighbours, precision_recall


def normal(count, width=4, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=["one block", "many blocks"], autouse=True)
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(neighbours, "BLOCK", 100)


def radii(points, k):
    return np.sort(cdist(points, points), axis=1)[:, k]


class TestNearest:
    @pytest.mark.parametrize("k", [1, 5])
    def test_against_all_distances(self, k):
        queries, points = normal(37), normal(41, seed=1) + 100  # far from the origin
        distances, indices = nearest(queries + 100, points, k)
        expected = cdist(queries + 100, points)
        np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :k], rtol=1e-9)
        np.testing.assert_array_equal(indices, np.argsort(expected, axis=1)[:, :k])

    def test_same(self):
        points = normal(30)
        distances, indices = nearest(points, points, 3, same=True)
        np.testing.assert_allclose(distances, np.sort(cdist(points, points), axis=1)[:, 1:4], rtol=1e-9)
        assert not (indices == torch.arange(30)[:, None]).any()

    def test_duplicates_are_at_zero_exactly(self):
        points = normal(30) * 1000 + 1e5
        assert nearest(points, points)[0].max() == 0
        twice = torch.cat([points, points])
        assert nearest(twice, twice, same=True)[0].max() == 0

    def test_float32(self):
        queries, points = normal(20).float(), normal(30, seed=1).float()
        np.testing.assert_allclose(nearest(queries, points)[0][:, 0], cdist(queries, points).min(1), rtol=1e-9)

    def test_says_what_is_wrong(self):
        with pytest.raises(ValueError, match="5 neighbours need as many points, not 4"):
            nearest(normal(3), normal(4), 5)
        with pytest.raises(ValueError, match="not 4 with the point itself"):
            nearest(normal(4), normal(4), 4, same=True)
        with pytest.raises(ValueError, match="k must be a positive integer, not 0"):
            nearest(normal(4), normal(4), 0)


class TestPrecisionRecall:
    @pytest.mark.parametrize("k", [1, 3])
    def test_against_all_distances(self, k):
        real, fake = normal(50), 0.7 * normal(40, seed=1) + 0.5
        between = cdist(fake, real)
        precision = (between <= radii(real, k)).any(axis=1).mean()
        recall = (cdist(real, fake) <= radii(fake, k)).any(axis=1).mean()
        assert 0.0 < precision < 1.0
        assert precision_recall(real, fake, k) == pytest.approx((precision, recall))

    def test_equal_sets(self):
        points = normal(50)
        assert precision_recall(points, points.clone()) == (1, 1)

    def test_disjoint_sets(self):
        assert precision_recall(normal(50), normal(50, seed=1) + 100) == (0, 0)

    def test_one_mode_of_two(self):
        """What is drawn is right, half is missing."""
        left, right = normal(200), normal(200, seed=1) + 100
        precision, recall = precision_recall(torch.cat([left, right]), normal(400, seed=2))
        assert precision > 0.9
        assert 0.4 < recall < 0.51

    def test_duplicates(self):
        """All samples one data point: each is right, and they reach nothing else."""
        real = normal(50)
        assert precision_recall(real, real[:1].expand(30, 4)) == (1, 1 / 50)


class TestDensityCoverage:
    @pytest.mark.parametrize("k", [1, 5])
    def test_against_all_distances(self, k):
        real, fake = normal(50), 0.7 * normal(40, seed=1) + 0.5
        inside = cdist(fake, real) <= radii(real, k)
        expected = inside.sum() / (k * len(fake)), inside.any(axis=0).mean()
        assert density_coverage(real, fake, k) == pytest.approx(expected)

    def test_one_distribution(self):
        """Their expectations there: density 1, coverage 1 - (N - 1) ... (N - k) / ((2N - 1) ... (2N - k)) (Lemma 1)."""
        n, k = 1000, 5
        density, coverage = density_coverage(normal(n), normal(n, seed=1), k)
        i = np.arange(1, k + 1)
        assert density == pytest.approx(1, abs=0.1)
        assert coverage == pytest.approx(1 - np.prod((n - i) / (2 * n - i)), abs=0.02)

    def test_disjoint_sets(self):
        assert density_coverage(normal(50), normal(50, seed=1) + 100) == (0, 0)

    def test_says_what_is_wrong(self):
        with pytest.raises(ValueError, match="fake has 5 samples, at least 6 are needed"):
            density_coverage(normal(50), normal(5))


class TestMemorisation:
    def test_new_samples(self):
        train, fake, held_out = normal(500), normal(300, seed=1), normal(300, seed=2)
        for ratio, copies in memorisation(train, fake, held_out), memorisation(train, fake):
            assert ratio == pytest.approx(1, abs=0.1)
            assert copies < 0.04

    def test_against_all_distances(self):
        train, fake, held_out = normal(50), 0.9 * normal(41, seed=1), normal(31, seed=2)
        ours, usual = cdist(fake, train).min(1), cdist(held_out, train).min(1)
        ratio, copies = memorisation(train, fake, held_out)
        assert ratio == pytest.approx(np.median(ours) / np.median(usual))
        assert copies == (ours < np.sort(usual)[0]).mean()

    def test_copies(self):
        train = normal(500)
        nearly = train[:250] + 1e-3 * normal(250, seed=1)
        assert memorisation(train, train[:250]) == (0, 1)
        assert memorisation(train, nearly).ratio < 0.01
        half = torch.cat([nearly, normal(250, seed=2)])
        assert memorisation(train, half).copies == pytest.approx(0.5, abs=0.03)

    def test_training_data_that_are_all_equal(self):
        one = normal(1).expand(30, 4)
        assert memorisation(one, one) == (1, 0)
