"""Nearest x2 upsampling and a convolution as one transposed convolution."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from fastgan.convolutions import merged
from fastgan.ops import resize_conv
from fastgan.reference import resize_conv as reference
from tests.ops.merged_cases import MergedCases, always, leaves  # noqa: F401


class TestResizeConv(MergedCases):
    op = staticmethod(resize_conv)
    reference = staticmethod(reference.resize_conv)
    runs = "resize"

    def test_one_pixel(self):
        ours, theirs = self.both(leaves(size=(1, 1)))
        assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_merged_weights_of_three_taps():
    """In one dimension (w2, w1 + w2, w0 + w1, w0)."""
    weight = torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 1, 3)
    assert merged.merge(weight, transposed=True).tolist() == [[[[100.0, 110.0, 11.0, 1.0]] * 2]]


def test_keeps_the_input_alone():
    """Not the upsampled map, which is four times as large."""
    x, weight, _ = leaves(size=(32, 32), dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        merged.resize(x.requires_grad_(), weight.requires_grad_(), None, 1)
    assert max(kept) == x.numel()
