"""Gradient penalties whose value is known, and the images at which they look."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from fastgan.losses import dragan, gradient_penalty, r1, r2
from tests.losses.test_penalties import drawn, images, seeded

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16


class TestClosedForms:
    """D(x) = w . x, whose gradient is w everywhere."""

    @pytest.mark.parametrize("penalty", [r1, r2])
    def test_r1_and_r2(self, penalty):
        w = torch.tensor([3.0, 4.0], requires_grad=True)
        value = penalty(lambda x: x @ w, torch.randn(5, 2))
        assert value.item() == pytest.approx(10 / 2 * 25)  # gamma is 10 by default
        value.backward()
        assert_close(w.grad, 10 * w.detach())

    @pytest.mark.parametrize("penalty", [lambda d, x: gradient_penalty(d, x, x + 1), dragan])
    def test_distance_of_the_norm_from_one(self, penalty):
        unit = torch.tensor([0.6, -0.8], dtype=F64)
        for norm, expected in ((1.0, 0.0), (0.25, 10 * 0.75**2), (3.0, 10 * 4.0)):
            w = (norm * unit).requires_grad_()
            value = penalty(lambda x, w=w: x @ w, torch.randn(5, 2, dtype=F64))
            assert value.item() == pytest.approx(expected, abs=1e-12)
            value.backward()
            assert_close(w.grad, 20 * (norm - 1) * unit)

    def test_one_sided(self):
        for norm, expected in ((0.5, 0.0), (1.0, 0.0), (3.0, 40.0)):
            w = torch.tensor([norm, 0.0], requires_grad=True)
            value = gradient_penalty(lambda x, w=w: x @ w, *torch.randn(2, 5, 2), one_sided=True)
            assert value.item() == pytest.approx(expected)

    def test_zero_centred(self):
        w = torch.tensor([3.0, 4.0], requires_grad=True)
        value = gradient_penalty(lambda x: x @ w, *torch.randn(2, 5, 2), weight=0.5, target=0.0)
        assert value.item() == pytest.approx(12.5)

    def test_mean_over_samples_and_sum_over_patches(self):
        """D(x) = sum of squares over 2, in every one of 3 patches: |grad| = 3 |x|."""
        real = torch.randn(4, 7, dtype=F64)
        one = torch.ones(1, dtype=F64, requires_grad=True)
        value = r1(lambda x: (one * x.square().sum(1, keepdim=True) / 2).expand(4, 3), real, gamma=2.0)
        assert value.item() == pytest.approx(9 * real.square().sum().item() / 4)


class Seen(nn.Module):
    """A discriminator that remembers its images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.images = x.detach()
        return (x * self.weight).flatten(1).sum(1)


class TestWhereTheyLook:
    def test_one_mix_for_each_sample(self):
        real, fake = torch.randn(2, 4000, 3, 2, 2, dtype=F64).unbind()
        gradient_penalty(seen := Seen(), real, fake)
        shares = ((seen.images - fake) / (real - fake)).flatten(1)
        assert_close(shares, shares.mean(1, keepdim=True).expand_as(shares), rtol=0, atol=1e-8)
        shares = shares[:, 0]
        assert shares.min() >= -1e-9
        assert shares.max() <= 1 + 1e-9
        assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
        assert shares.var().item() == pytest.approx(1 / 12, rel=0.05)
        assert shares.unique().numel() == 4000

    @pytest.mark.parametrize("noise", [0.5, 0.1])
    def test_noise_of_dragan(self, noise):
        real = 3 * torch.randn(100, 3, 16, 16) + 20  # its standard deviation is 3, its root mean square is not
        dragan(seen := Seen(), real, noise=noise)
        added = (seen.images - real).double()
        deviation = noise * real.std().item()
        assert added.std().item() == pytest.approx(deviation, rel=0.02)
        assert added.mean().item() == pytest.approx(0, abs=0.02 * deviation)
        assert (added / deviation).pow(4).mean().item() == pytest.approx(3, rel=0.05)  # 1.8 if it were uniform
        samples = added.flatten(1)
        neighbours = (samples[:, 1:] * samples[:, :-1]).mean() / deviation**2
        assert abs(neighbours.item()) < 0.02  # each value by itself
        assert abs((samples[1:] * samples[:-1]).mean().item()) < 0.02 * deviation**2

    def test_without_noise_at_the_real_images(self):
        real, _ = images()
        dragan(seen := Seen(), real, noise=0.0)
        assert torch.equal(seen.images, real)

    def test_default_noise_is_half_a_standard_deviation(self):
        real, _ = images()
        dragan(seen := Seen(), real, generator=seeded())
        default = seen.images
        dragan(seen, real, noise=0.5, generator=seeded())
        assert torch.equal(seen.images, default)

    def test_r1_and_r2_at_their_images(self):
        real, fake = images()
        for penalty, expected in ((r1, real), (r2, fake)):
            penalty(seen := Seen(), expected)
            assert torch.equal(seen.images, expected)

    @pytest.mark.parametrize("penalty", [functools.partial(gradient_penalty, fake=images()[1]), dragan])
    def test_the_generator_draws(self, penalty):
        seen, real = Seen(), images()[0]

        def looked(**how):
            penalty(seen, real=real, **how)
            return seen.images

        state = torch.get_rng_state()
        first = looked(generator=seeded())
        assert torch.equal(looked(generator=seeded()), first)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(7)
        first = looked()
        assert not torch.equal(looked(), first)
        torch.manual_seed(7)
        assert torch.equal(looked(), first)

    @pytest.mark.parametrize("dtypes", [(F32, BF16, F32), (BF16, BF16, BF16), (F64, F32, F64)], ids=str)
    def test_dtype_of_the_mix(self, dtypes):
        (real, _), (_, fake) = images(dtype=dtypes[0]), images(dtype=dtypes[1])
        gradient_penalty(seen := Seen(), real, fake)
        assert seen.images.dtype == dtypes[2]

    def test_mix_of_bfloat16_images_rounds_once(self):
        real, fake = images(dtype=BF16)
        gradient_penalty(seen := Seen(), real, fake, generator=seeded())
        u = drawn(torch.rand, (6, 1, 1, 1))
        assert torch.equal(seen.images, (fake.float() + u * (real.float() - fake.float())).bfloat16())
