"""A fused network computes what it computed before: outputs, gradients, buffers, training."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils import _pytree as pytree

from fastgan import backend, explain, fuse
from tests.fusion.fusion_networks import NETWORKS, build

EXACT = {"rtol": 1e-9, "atol": 1e-11}  # of float64


def loss_of(output):
    return sum(
        (t * torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view_as(t)).sum() for t in pytree.tree_leaves(output)
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("bias_op")
class TestSameMathematics:
    def test_finds_the_places(self, name, op, bias_op):
        network, x = build(name)
        norms, convolutions, products = NETWORKS[name][2:]
        kernels = [row.kernel.split()[0] for row in explain(network) if row.kernel]
        assert [kernels.count(k) for k in ("norm_act", "bias_act", "linear")] == [norms, convolutions, products]
        assert fuse(network) is network
        fused = [row.kernel.split()[0] for row in explain(network) if row.fused]
        assert fused.count("norm_act") == op.expected(norms)
        assert fused.count("linear") == products
        assert fused.count("bias_act") == (convolutions if backend.choose("bias_act", "cpu") == "native" else 0)
        network(x)
        assert op.take() == op.expected(norms)
        assert bias_op.take() == convolutions

    @pytest.mark.parametrize("training", [True, False])
    def test_outputs_and_gradients(self, name, training, pair):
        network, x = build(name)
        network(x)  # running statistics that differ from zero and one
        fused, plain = (m.train(training) for m in pair(network))
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        for _ in range(2):
            output, expected = fused(mine), plain(theirs)
            assert_close(output, expected, **EXACT)
            loss_of(output).backward()
            loss_of(expected).backward()
        assert_close(mine.grad, theirs.grad, **EXACT)
        for (key, parameter), other in zip(fused.named_parameters(), plain.parameters()):
            assert_close(parameter.grad, other.grad, **EXACT, msg=lambda m, key=key: f"{key}: {m}")
        assert_close(fused.state_dict(), plain.state_dict(), **EXACT)

    @pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
    def test_training(self, name, optimizer, pair):
        network, x = build(name)
        fused, plain = pair(network)
        for model in (fused, plain):
            steps = optimizer(model.parameters(), lr=1e-2)
            for _ in range(3):
                steps.zero_grad()
                loss_of(model(x)).backward()
                steps.step()
        assert fused.state_dict().keys() == plain.state_dict().keys()
        # Adam divides by gradients that are zero but for rounding (a bias before a norm), so it magnifies rounding
        loose = {"rtol": 1e-4, "atol": 1e-3} if optimizer is torch.optim.Adam else {"rtol": 1e-7, "atol": 1e-9}
        assert_close(fused.state_dict(), plain.state_dict(), **loose)


@pytest.mark.usefixtures("bias_op")
class TestSecondDerivative:
    @pytest.mark.parametrize("name", ["sequential", "discriminator", "convolutions", "residual", "volumes"])
    def test_r1_penalty(self, name, pair):
        fused, plain = pair(build(name)[0])
        grads = []
        for model in (fused, plain):
            x = build(name)[1].requires_grad_()
            (grad,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
            grad.square().sum().backward()
            grads.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
        assert grads[0]
        assert_close(*grads, **EXACT)


class TestPrecision:
    def test_autocast(self, pair, op):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
                                nn.PReLU())  # fmt: skip
        fused, plain = pair(network)
        x = torch.randn(4, 3, 8, 8)
        with torch.autocast("cpu", torch.bfloat16):
            output, expected = fused(x), plain(x)
        assert output.dtype == expected.dtype == torch.bfloat16
        assert_close(output, expected, rtol=3e-2, atol=3e-2)
        assert_close(fused.state_dict(), plain.state_dict(), rtol=1e-2, atol=1e-2)
        assert op.take() == op.expected(2)

    def test_autocast_of_prelu_on_float32(self, pair):
        """prelu is one of autocast's functions: the norm is float32, its activation bfloat16."""
        fused, plain = pair(nn.Sequential(nn.BatchNorm2d(3), nn.PReLU()))
        x = torch.randn(4, 3, 8, 8)
        with torch.autocast("cpu", torch.bfloat16):
            assert_close(fused(x), plain(x))

    def test_layout(self, pair):
        fused, plain = pair(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
        for x in (torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)):
            assert fused(x).stride() == plain(x).stride()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_moved_later(self, dtype, pair, op):
        fused, plain = pair(build("sequential")[0])
        fused.to(dtype, memory_format=torch.channels_last)
        plain.to(dtype, memory_format=torch.channels_last)
        x = build("sequential")[1].to(dtype)
        loose = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 3e-2, "atol": 3e-2}
        assert_close(fused(x), plain(x), **loose)
        assert op.take() == op.expected(1)


class TestErrorsStayPyTorchs:
    @pytest.mark.parametrize(
        ("network", "shape"),
        [
            (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), (4, 3, 5)),
            (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), (1, 3, 1, 1)),
            (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), (4, 2, 5, 5)),
            (nn.Sequential(nn.InstanceNorm2d(3, affine=True), nn.ReLU()), (4, 2, 5, 5)),
            (nn.Sequential(nn.InstanceNorm2d(3), nn.ReLU()), (4, 3, 1, 1)),
        ],
    )
    def test_raises_where_pytorch_does(self, network, shape, pair):
        fused, plain = pair(network)
        for model in (plain, fused):
            with pytest.raises((ValueError, RuntimeError)):
                model(torch.randn(shape))
        assert_close(fused.state_dict(), plain.state_dict())

    def test_input_without_batch(self, pair):
        fused, plain = pair(nn.Sequential(nn.InstanceNorm2d(3), nn.ReLU()))
        x = torch.randn(3, 5, 5)
        assert_close(fused(x), plain(x))

    def test_warns_where_pytorch_does(self, pair):
        fused, _ = pair(nn.Sequential(nn.InstanceNorm2d(4), nn.ReLU()))
        with pytest.warns(UserWarning, match="num_features"):
            fused(torch.randn(2, 3, 5, 5))

    @pytest.mark.parametrize(
        ("norm", "act"),
        [
            (nn.BatchNorm2d(3, momentum=1.5), nn.ReLU()),
            (nn.InstanceNorm2d(3, eps=-1e-3), nn.ReLU()),
            (nn.BatchNorm2d(3), nn.LeakyReLU(torch.tensor(0.3))),
        ],
    )
    def test_settings_that_the_op_refuses(self, norm, act, pair, op):
        fused, plain = pair(nn.Sequential(norm, act))
        x = torch.randn(4, 3, 5, 5)
        assert_close(fused(x), plain(x))
        assert_close(fused.state_dict(), plain.state_dict())
        assert op.take() == 0
