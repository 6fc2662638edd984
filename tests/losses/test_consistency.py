"""Cycle, identity and feature matching against their formulas."""

from __future__ import annotations

import pytest
import torch

from fastgan.losses import cycle, feature_matching, identity

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


@pytest.mark.parametrize(("loss", "default"), [(cycle, 10), (identity, 5)])
class TestL1:
    def test_value_and_gradient(self, loss, default):
        images, others = torch.randn(2, 3, 2, 4, 4, dtype=F64).unbind()
        others.requires_grad_()
        value = loss(images, others)
        assert value.item() == pytest.approx(default * (others - images).abs().sum().item() / 96)
        value.backward()
        torch.testing.assert_close(others.grad, default * (others - images).sign() / 96)
        assert loss(images, others, weight=0.5).item() == pytest.approx(value.item() / default / 2)
        assert loss(images, images).item() == 0

    @pytest.mark.parametrize("dtype", [BF16, F16])
    def test_half_precision_is_computed_in_float32(self, loss, default, dtype):
        images, others = (100 * torch.randn(2, 3, 64, 64)).to(dtype).unbind()
        value = loss(images, others)
        assert value.dtype == F32
        assert torch.equal(value, loss(images.float(), others.float()))
        assert torch.equal(loss(images.float(), others), value)  # one of each, as under autocast

    def test_says_what_is_wrong(self, loss, default):
        images = torch.zeros(2, 3, 4, 4)
        other = "restored" if loss is cycle else "mapped"
        with pytest.raises(ValueError, match=rf"images and {other} must have the same shape, not \(2, 3.*\(2, 1"):
            loss(images, images[:, :1])  # would broadcast
        with pytest.raises(TypeError, match=r"images must be a floating-point tensor, not torch\.uint8"):
            loss(images.byte(), images)
        with pytest.raises(TypeError, match=f"{other} must be a floating-point tensor, not list"):
            loss(images, [0.0])
        with pytest.raises(ValueError, match="images is empty"):
            loss(images[:0], images[:0])
        with pytest.raises(ValueError, match="weight must be a finite number of at least 0, not -1"):
            loss(images, images, -1)
        with pytest.raises(ValueError, match=r"images is on cpu and .* on meta"):
            loss(images, images.to("meta"))


class TestFeatureMatching:
    @pytest.mark.parametrize("shape", [(7,), (3, 4, 5), ()])
    def test_value_and_gradient(self, shape):
        real, fake = torch.randn(9, *shape, dtype=F64), torch.randn(4, *shape, dtype=F64, requires_grad=True)
        difference = real.sum(0) / 9 - fake.detach().sum(0) / 4
        for squared, expected, slope in (
            (False, difference.abs().mean(), -difference.sign()),
            (True, (difference**2).mean(), -2 * difference),
        ):
            value = feature_matching(real, fake, squared=squared)
            torch.testing.assert_close(value, expected)
            (grad,) = torch.autograd.grad(value, fake)
            torch.testing.assert_close(grad, (slope / difference.numel() / 4).expand(4, *shape))

    def test_matches_means_not_samples(self):
        features = torch.randn(8, 5, dtype=F64)
        assert feature_matching(features, features.flip(0)).item() == pytest.approx(0)

    def test_half_precision_is_computed_in_float32(self):
        real, fake = torch.randn(2, 64, 5).bfloat16().unbind()
        value = feature_matching(real, fake)
        assert value.dtype == F32
        assert torch.equal(value, feature_matching(real.float(), fake.float()))

    def test_says_what_is_wrong(self):
        features = torch.zeros(4, 6)
        for other in (torch.zeros(4, 1), torch.zeros(4, 6, 1), torch.zeros(4), torch.tensor(0.0)):
            with pytest.raises(ValueError, match="must have the same shape but for the batch"):
                feature_matching(features, other)
        with pytest.raises(ValueError, match="must have the same shape but for the batch"):
            feature_matching(torch.tensor(0.0), torch.tensor(0.0))
        with pytest.raises(TypeError, match=r"fake_features must be a floating-point tensor, not torch\.int64"):
            feature_matching(features, features.long())
        with pytest.raises(ValueError, match="real_features is empty"):
            feature_matching(features[:0], features)
