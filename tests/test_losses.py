"""The losses against their formulas in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from fastgan.losses import NonSaturating


def logits(*values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype, requires_grad=True)


class TestNonSaturating:
    loss = NonSaturating()

    def test_is_binary_cross_entropy(self):
        real, fake = torch.randn(2, 64, dtype=torch.float64).unbind()
        expected = F.binary_cross_entropy(real.sigmoid(), torch.ones(64).double())
        expected += F.binary_cross_entropy(fake.sigmoid(), torch.zeros(64).double())
        assert self.loss.discriminator(real, fake).item() == pytest.approx(expected.item(), rel=1e-12)
        expected = F.binary_cross_entropy(fake.sigmoid(), torch.ones(64).double())
        assert self.loss.generator(fake).item() == pytest.approx(expected.item(), rel=1e-12)

    def test_at_equilibrium(self):
        assert self.loss.discriminator(logits(0.0), logits(0.0)).item() == pytest.approx(2 * math.log(2))
        assert self.loss.generator(logits(0.0)).item() == pytest.approx(math.log(2))

    def test_gradient_does_not_vanish_where_the_discriminator_wins(self):
        fake = logits(-1e4)
        self.loss.generator(fake).backward()
        assert fake.grad.item() == -1

    @pytest.mark.parametrize("value", [1e4, -1e4])
    def test_finite_for_any_logit(self, value):
        real, fake = logits(value), logits(value)
        loss = self.loss.discriminator(real, fake)
        loss.backward()
        assert loss.item() == pytest.approx(1e4)
        assert real.grad.isfinite().all()
        assert fake.grad.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, dtype):
        real, fake = torch.randn(2, 64).to(dtype).unbind()
        assert self.loss.discriminator(real, fake).dtype == torch.float32
        assert torch.equal(self.loss.discriminator(real, fake), self.loss.discriminator(real.float(), fake.float()))

    def test_second_derivative(self):
        values = torch.randn(5, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(self.loss.generator, values)

    def test_says_what_is_wrong(self):
        with pytest.raises(TypeError, match=r"fake_logits must be a floating-point tensor, not torch\.int64"):
            self.loss.generator(torch.tensor([1]))
        with pytest.raises(ValueError, match="real_logits is empty"):
            self.loss.discriminator(torch.empty(0), torch.zeros(1))
