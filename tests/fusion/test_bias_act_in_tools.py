"""Fused convolutions under torch.compile, torch.export, torch.jit.trace, torch.func and the wrappers of torch.nn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastgan import explain, fuse
from tests.fusion.comparing import assert_equal, loss_of
from tests.fusion.convolution_networks import WEIGHTS, image, small, two
from tests.fusion.fusion_networks import build, discriminator

pytestmark = pytest.mark.usefixtures("bias_op")

MAKERS = {
    "convolutions": lambda: build("convolutions")[0],
    **{kind: lambda kind=kind: discriminator(WEIGHTS[kind]).double() for kind in WEIGHTS},
}


class TestTools:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", MAKERS)
    def test_compile_without_a_break(self, name, bias_op):
        fused, plain = two(MAKERS[name])
        x = build("convolutions" if name == "convolutions" else "discriminator")[1]
        torch._dynamo.reset()
        compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
        for training in (True, False):
            results = []
            for model, call in ((fused.train(training), compiled), (plain.train(training), plain)):
                inputs = x.clone().requires_grad_()
                loss_of(output := call(inputs)).backward()
                results.append((output, inputs.grad, [p.grad for p in model.parameters()]))
            assert_equal(*results)
        assert bias_op.take() > 0
        assert_equal(dict(fused.state_dict()), dict(plain.state_dict()))

    @pytest.mark.parametrize("name", MAKERS)
    @pytest.mark.parametrize("strict", [True, False])
    def test_export_needs_pytorch_alone(self, name, strict):
        fused, plain = two(lambda: MAKERS[name]().eval())
        x = build("convolutions" if name == "convolutions" else "discriminator")[1]
        program = torch.export.export(fused, (x,), strict=strict)
        assert not any("fastgan" in str(node.target) for node in program.graph.nodes)
        assert_equal(program.module()(x), plain(x))

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("name", MAKERS)
    def test_jit_trace_needs_pytorch_alone(self, name):
        fused, plain = two(lambda: MAKERS[name]().eval())
        x = build("convolutions" if name == "convolutions" else "discriminator")[1]
        traced = torch.jit.trace(fused, x)
        assert "fastgan::" not in str(traced.inlined_graph)
        assert_equal(traced(x), plain(x))

    def test_functional_call_and_transforms(self, bias_op):
        fused, plain = two(lambda: build("convolutions")[0])
        x = build("convolutions")[1]
        state = {key: value.detach() * 2 for key, value in plain.named_parameters()}
        assert_equal(*(torch.func.functional_call(model, state, (x,)) for model in (fused, plain)))
        assert bias_op.take() == 7
        assert_equal(*(torch.func.vmap(model)(x[:, None]) for model in (fused, plain)))
        assert_equal(*(torch.func.jvp(model, (x,), (torch.ones_like(x),)) for model in (fused, plain)))

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_checkpointing(self, reentrant):
        results = []
        for model in two(lambda: build("convolutions")[0]):
            x = build("convolutions")[1].requires_grad_()
            loss_of(torch.utils.checkpoint.checkpoint(model, x, use_reentrant=reentrant)).backward()
            results.append((x.grad, [p.grad for p in model.parameters()]))
        assert_equal(*results)

    def test_data_parallel_replicas(self, bias_op):
        """They hold their parameters as plain attributes."""
        fused, plain = two(small)
        x = image()
        replica = fused._replicate_for_data_parallel()
        inner = fused[0]._replicate_for_data_parallel()
        for key in ("weight", "bias"):
            setattr(inner, key, getattr(fused[0], key) * 1)
        replica._modules["0"] = inner
        assert_equal(replica(x), plain(x))
        assert bias_op.take() == 1
        wrapped = nn.DataParallel(small())
        fuse(wrapped)
        assert explain(wrapped)["module.0"].kernel
