"""backend.using: what backend="auto" means for a block of code, and for nothing else."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from fastgan import backend, ops
from fastgan.convolutions.convolution import conv2d

needs_kernels = pytest.mark.skipif(backend.choose("norm_act", "cpu") != "native", reason="needs the compiled ops")


def norm_act() -> str:
    return ops.norm_act(torch.randn(2, 3, 4, 4, requires_grad=True)).grad_fn.name()


def convolved() -> Tensor:
    """By Winograd's method, where nobody asks for PyTorch's."""
    torch.manual_seed(0)
    image, weight = torch.randn(8, 64, 16, 16).to(memory_format=torch.channels_last), torch.randn(64, 64, 3, 3)
    return conv2d(image, weight.requires_grad_(), padding=1)


@needs_kernels
class TestUsing:
    def test_runs_no_op_of_ours(self):
        ours = norm_act()
        with backend.using("torch"):
            assert backend.choose("norm_act", "cpu") == backend.wanted() == "torch"
            assert norm_act() == "NativeBatchNormBackward0" != ours
            assert backend.choose("norm_act", "cpu", "native") == "native"  # who names one gets it
        assert norm_act() == ours
        assert backend.choose("norm_act", "cpu") == "native"

    def test_convolutions_are_pytorch_s(self):
        with backend.using("torch"):
            assert convolved().grad_fn.name() == "ConvolutionBackward0"

    def test_the_innermost_counts(self):
        with backend.using("torch"):
            with backend.using("native"):
                assert backend.choose("norm_act", "cpu") == "native"
                assert backend.choose("conv_pool", "cpu") == "torch"  # which has no such kernel
            assert backend.choose("norm_act", "cpu") == "torch"

    def test_an_error_ends_it(self):
        with pytest.raises(KeyError), backend.using("torch"):
            raise KeyError
        assert backend.inside() == "auto"

    def test_other_threads_have_their_own(self):
        found = []
        with backend.using("torch"):
            thread = threading.Thread(target=lambda: found.append(backend.choose("norm_act", "cpu")))
            thread.start()
            thread.join()
        assert found == ["native"]

    def test_small_tensors_remember_nothing_of_it(self):
        small = torch.randn(2, 3, requires_grad=True), torch.randn(3)
        with backend.using("native"):
            inside = ops.bias_act(*small, act="relu").grad_fn.name()
        assert "BiasAct" in inside
        assert "BiasAct" not in ops.bias_act(*small, act="relu").grad_fn.name()


def test_an_unknown_name():
    with pytest.raises(ValueError, match="backend='cuda' is not a backend; accepted: auto, native, torch"):
        backend.using("cuda").__enter__()
