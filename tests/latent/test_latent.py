"""interpolate, arithmetic, directions and projections."""

import math

import numpy as np
import pytest
import torch

from fastgan.latent import arithmetic, combine, directions, interpolate, project
from fastgan.systems import create


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
            ((random(3), random(4), 5), ValueError, r"must have one shape.*not \(3,\) and \(4,\)"),
            ((random(2, 3), random(3), 5), ValueError, "must have one shape"),
            ((random(0, 3), random(0, 3), 5), ValueError, "must have one shape"),
            ((torch.zeros(3, dtype=torch.int64), random(3), 5), TypeError, "a must be a floating-point tensor"),
            ((random(3), [1.0, 2.0, 3.0], 5), TypeError, "b must be a floating-point tensor of latents, not list"),
            ((random(3), random(3), 1), ValueError, "steps must be a whole number of at least 2, not 1"),
            ((random(3), random(3), 2.5), ValueError, "steps must be a whole number"),
            ((random(3), random(3), 5, "slerp"), ValueError, "mode must be one of spherical, linear, not 'slerp'"),
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
            (((1, random(0, 4)),), r"not \(0, 4\)"),
            (((1, random(4)),), r"must be \(N, ...\)"),
            (((1, random(2, 4)), (1, random(2, 5))), r"of one shape, not \(2, 4\), \(2, 5\)"),
        ],
    )
    def test_says_what_is_wrong(self, terms, message):
        with pytest.raises(ValueError, match=message):
            arithmetic(*terms)


class TestCombine:
    def test_names(self):
        groups = {"smiling woman": random(3, 4), "neutral woman": random(2, 4, seed=1), "man": random(5, 4, seed=2)}
        expected = arithmetic(*zip((1, -1, 1), groups.values()))
        assert torch.equal(combine("smiling woman - neutral woman + man", groups), expected)
        assert torch.equal(combine("- man", groups), arithmetic((-1, groups["man"])))

    @pytest.mark.parametrize("expression", ["", "a +", "a - - b", "+"])
    def test_what_cannot_be_read(self, expression):
        with pytest.raises(ValueError, match=r"cannot read|no group"):
            combine(expression, {"a": random(1, 4), "b": random(1, 4)})

    def test_unknown_names(self):
        with pytest.raises(ValueError, match="no group 'c'; the groups are a, b"):
            combine("a - c", {"a": random(1, 4), "b": random(1, 4)})


class TestDirections:
    def test_finds_the_way_that_labels_follow(self):
        latents, way = random(4000, 10), random(10, seed=1)
        found = directions(latents, latents @ way > 0)
        torch.testing.assert_close(found[1], way / way.norm(), rtol=0, atol=0.1)
        torch.testing.assert_close(found[0], -found[1])
        assert found[1].norm() == pytest.approx(1)

    def test_each_label(self):
        latents = torch.eye(4).repeat(3, 1)
        found = directions(latents, torch.arange(12) % 4)
        assert list(found) == [0, 1, 2, 3]
        expected = torch.tensor([-1 / 3, -1 / 3, 1, -1 / 3])
        torch.testing.assert_close(found[2], expected / expected.norm())

    def test_says_what_is_wrong(self):
        with pytest.raises(ValueError, match=r"at least two are needed, not \[1\]"):
            directions(random(3, 4), torch.ones(3).long())
        with pytest.raises(ValueError, match=r"not \(3, 4\) and \(2,\)"):
            directions(random(3, 4), torch.ones(2).long())


class TestProject:
    def test_of_a_linear_generator(self):
        """The nearest image is that of the least squares solution."""
        weight, picture = random(12, 4, seed=1), random(1, 3, 4, seed=2).tanh()
        found = project(lambda z: (z @ weight.t()).view(-1, 1, 3, 4), picture, random(5, 4), steps=400)
        best = torch.linalg.lstsq(weight, picture.view(12, 1)).solution
        torch.testing.assert_close(found.latent[:, None], best, rtol=0, atol=1e-3)
        assert found.error == pytest.approx((weight @ best - picture.view(12, 1)).square().mean().item(), rel=1e-4)

    def test_finds_an_image_of_a_generator_again(self):
        system = create("dcgan", resolution=16, channels=1, width=8, latent=6).eval()
        state = {name: value.clone() for name, value in system.state_dict().items()}
        picture = system.sample(1, latent=random(1, 6, seed=7))[0]
        found = project(system.generate, picture, random(4, 6), steps=100)
        assert found.errors.shape == (101, 4)
        assert found.way.shape == (101, 6)
        assert found.error == found.errors.min() < 0.02 * found.errors[0].min()
        assert torch.equal(found.latent, found.way[-1])
        image = system.sample(1, latent=found.latent[None])[0]
        assert (image - picture).square().mean().item() == pytest.approx(found.error, rel=1e-3, abs=1e-9)
        assert all(parameter.grad is None and parameter.requires_grad for parameter in system.parameters())
        assert all(torch.equal(value, state[name]) for name, value in system.state_dict().items())

    def test_under_no_grad(self):
        with torch.no_grad():
            assert project(lambda z: z[:, :, None, None], random(3, 1, 1).tanh(), random(1, 3), steps=50).error < 0.1

    @pytest.mark.parametrize(
        ("picture", "starts", "options", "message"),
        [
            (
                random(1, 2, 2).tanh(),
                random(2, 3),
                {},
                r"picture has shape \(1, 2, 2\) .*the generator's images \(3, 1, 1\)",
            ),
            (random(3, 1, 1).tanh(), random(3), {}, r"starts must be \(R, ...\)"),
            (random(3, 1, 1).tanh(), random(2, 3), {"steps": 0}, "steps must be a positive integer, not 0"),
            (random(3, 1, 1).tanh(), random(2, 3), {"rate": 0}, "rate must be a positive number, not 0"),
        ],
    )
    def test_says_what_is_wrong(self, picture, starts, options, message):
        with pytest.raises(ValueError, match=message):
            project(lambda z: z[:, :, None, None], picture, starts, **options)
