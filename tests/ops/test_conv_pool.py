"""A convolution and 2x2 average pooling as one convolution of stride 2."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from fastgan.convolutions import merged
from fastgan.ops import conv_pool
from fastgan.reference import conv_pool as reference
from tests.ops.merged_cases import MergedCases, always, leaves  # noqa: F401


class TestConvPool(MergedCases):
    op = staticmethod(conv_pool)
    reference = staticmethod(reference.conv_pool)
    runs = "pool"

    @pytest.mark.parametrize("size", [(2, 2), (3, 3), (2, 7), (9, 4)], ids=str)
    def test_odd_sizes(self, size):
        """The last row and column of the convolution are left out by the pooling."""
        for kernel in ((3, 3), (5, 1)):
            ours, theirs = self.both(leaves(kernel, size=size))
            assert_close(ours, theirs, rtol=1e-10, atol=1e-10)

    def test_too_small(self):
        with pytest.raises(ValueError, match=r"x must be at least 2x2, not shape \(2, 4, 1, 6\)"):
            conv_pool(*leaves(size=(1, 6)))


def test_merged_weights_of_three_taps():
    """In one dimension (w0, w0 + w1, w1 + w2, w2) / 2."""
    weight = torch.tensor([2.0, 20.0, 200.0]).view(1, 1, 1, 3)
    assert merged.merge(weight).tolist() == [[[[0.5, 5.5, 55.0, 50.0]] * 2]]


def test_rounded_once():
    """In bfloat16 the pair rounds the convolution's result and its mean; the merged one its weights and its result."""
    x, weight, bias = leaves(size=(16, 16), dtype=torch.bfloat16, channels=(32, 32))
    exact = reference.conv_pool(x.double(), weight.double(), bias.double())
    ours, theirs = (
        f(x, weight, bias, 1).double().sub(exact).square().mean() for f in (merged.pool, reference.conv_pool)
    )
    assert ours < 2 * theirs
