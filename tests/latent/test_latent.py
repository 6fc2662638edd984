"""interpolate and arithmetic."""

import math

import numpy as np
import pytest
import torch

from fastgan.latent import arithmetic, interpolate


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slerp(a, b, t):
    """Of two vectors, as in White 2016, the norm beside it."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
    omega = math.acos(u @ v)
    norm = (1 - t) * np.linalg.norm(a) + t * np.linalg.norm(b)
    return norm * (math.sin((1 - t) * omega) * u + math.sin(t * omega) * v) / math.sin(omega)


class TestInterpolate:
    @pytest.mark.parametrize("shape", [(1, 3), (5, 100), (4, 8, 2, 2)])
    def test_spherical(self, shape):
        a, b = random(*shape), 1.5 * random(*shape, seed=1)
        way = interpolate(a, b, 7)
        assert way.shape == (7, *shape)
        for step, got in enumerate(way):
            expected = [slerp(x, y, step / 6) for x, y in zip(a.flatten(1), b.flatten(1))]
            np.testing.assert_allclose(got.flatten(1), expected, rtol=1e-5, atol=1e-5)

    def test_linear(self):
        a, b = random(3, 8), random(3, 8, seed=1)
        torch.testing.assert_close(interpolate(a, b, 3, "linear")[1], (a + b) / 2)

    def test_one_latent(self):
        a, b = random(10), random(10, seed=1)
        way = interpolate(a, b, 4)
        assert way.shape == (4, 10)
        assert torch.equal(way, interpolate(a[None], b[None], 4)[:, 0])

    @pytest.mark.parametrize("mode", ["spherical", "linear"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_ends_are_exact(self, mode, dtype):
        a, b = random(20, 50, dtype=dtype), random(20, 50, seed=1, dtype=dtype)
        way = interpolate(a, b, 9, mode)
        assert way.dtype == dtype
        assert torch.equal(way[0], a)
        assert torch.equal(way[-1], b)

    def test_norm_stays_where_a_line_would_lose_it(self):
        a, b = random(50, 100), random(50, 100, seed=1)
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        torch.testing.assert_close(interpolate(a, b, 11).norm(dim=2), torch.ones(11, 50))
        assert interpolate(a, b, 11, "linear")[5].norm(dim=1).max() < 0.9

    @pytest.mark.parametrize("factor", [1, 2, 0, -1, 1 + 1e-7])
    def test_parallel_latents_are_interpolated_linearly(self, factor):
        a = random(3, 8)
        b = a * factor
        torch.testing.assert_close(interpolate(a, b, 5), interpolate(a, b, 5, "linear"))

    def test_nearly_parallel_latents_are_close_to_linear(self):
        a = random(3, 8)
        b = a + 1e-4 * random(3, 8, seed=1)
        torch.testing.assert_close(interpolate(a, b, 5), interpolate(a, b, 5, "linear"), rtol=1e-6, atol=1e-6)

    def test_one_parallel_row_leaves_the_others(self):
        a, b = random(3, 8), random(3, 8, seed=1)
        others = interpolate(a[1:], b[1:], 5)
        b[0] = a[0]
        assert torch.equal(interpolate(a, b, 5)[:, 1:], others)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((random(3), random(4), 5), ValueError, r"must have one shape.*got \(3,\) and \(4,\)"),
            ((random(2, 3), random(3), 5), ValueError, "must have one shape"),
            ((random(0, 3), random(0, 3), 5), ValueError, "must have one shape"),
            ((torch.zeros(3, dtype=torch.int64), random(3), 5), TypeError, "a must be a floating-point tensor"),
            ((random(3), [1.0, 2.0, 3.0], 5), TypeError, "b must be a floating-point tensor of latents, got list"),
            ((random(3), random(3), 1), ValueError, "steps must be a whole number of at least 2, got 1"),
            ((random(3), random(3), 2.5), ValueError, "steps must be a whole number"),
            ((random(3), random(3), 5, "slerp"), ValueError, "mode must be one of spherical, linear, got 'slerp'"),
        ],
    )
    def test_says_what_is_wrong(self, arguments, error, message):
        with pytest.raises(error, match=message):
            interpolate(*arguments)


class TestArithmetic:
    def test_means_with_signs(self):
        a, b, c = random(3, 4), random(2, 4, seed=1), random(1, 4, seed=2)
        expected = (a[0] + a[1] + a[2]) / 3 - (b[0] + b[1]) / 2 + c[0]
        torch.testing.assert_close(arithmetic((1, a), (-1, b), (1, c)), expected)

    def test_any_shape(self):
        assert arithmetic((1, random(3, 4, 2, 2)), (-0.5, random(1, 4, 2, 2))).shape == (4, 2, 2)

    @pytest.mark.parametrize(
        ("terms", "message"),
        [
            ((), "at least one term"),
            (((1, random(0, 4)),), r"got \(0, 4\)"),
            (((1, random(4)),), r"must be \(N, ...\)"),
            (((1, random(2, 4)), (1, random(2, 5))), r"of one shape, got \(2, 4\), \(2, 5\)"),
        ],
    )
    def test_says_what_is_wrong(self, terms, message):
        with pytest.raises(ValueError, match=message):
            arithmetic(*terms)
