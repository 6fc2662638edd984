"""What explain says of the places of a network that it runs on an input."""

from __future__ import annotations

import copy
import functools
import types

import pytest
import torch
from torch import nn

from fastgan import backend, explain, fuse
from fastgan.convolutions import rules

native = pytest.mark.skipif(backend.choose("norm_act", "cpu") != "native", reason="needs the compiled extension")


def network():
    return nn.Sequential(
        nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 128, 4, 2, 1), nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Conv2d(128, 1, 4), nn.Flatten(0),
    )  # fmt: skip


@native
class TestRuns:
    def test_says_what_runs_here(self):
        report = explain(fuse(network()), torch.randn(16, 3, 16, 16))
        assert report["3"].runs is True
        assert "for this input" in str(report).splitlines()[-1]

    def test_a_size_at_which_nothing_is_gained(self, monkeypatch):
        """PyTorch's own convolutions are the faster ones."""
        monkeypatch.setattr(rules, "fastest", lambda layer: ("torch",) * 3)
        small = explain(fuse(network()), torch.randn(1, 3, 16, 16))
        (row,) = (row for row in small if row.path == "2" and row.kernel.startswith("convolution"))
        assert row.fused
        assert row.runs is False
        assert "float32 1x64x8x8 contiguous" in row.reason

    def test_advises_the_other_layout(self, monkeypatch):
        """Of a processor on which a convolution gains in channels_last alone."""
        monkeypatch.setattr(rules, "fastest", lambda layer: ("mm" if layer.channels_last else "torch",) * 3)
        model, x = fuse(network()), torch.randn(16, 3, 32, 32)
        contiguous = explain(model, x)
        last = explain(
            copy.deepcopy(model).to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
        )
        runs = [sum(bool(row.runs) for row in report) for report in (contiguous, last)]
        assert runs[0] < runs[1]
        (advice,) = (row for row in contiguous if row.pattern == "channels_last")
        assert f"{runs[1]} places run instead of {runs[0]}" in advice.reason
        assert not [row for row in last if row.pattern == "channels_last"]

    def test_changes_nothing(self):
        model = fuse(network())
        state = copy.deepcopy(model.state_dict())
        kinds, random = [type(module) for module in model.modules()], torch.get_rng_state()
        explain(model, torch.randn(4, 3, 16, 16, generator=torch.Generator()))
        assert torch.equal(torch.get_rng_state(), random)
        assert [type(module) for module in model.modules()] == kinds
        for name, value in model.state_dict().items():
            assert torch.equal(value, state[name]), name
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_what_the_network_raises(self):
        with pytest.raises(RuntimeError, match="channels"):
            explain(fuse(network()), torch.randn(4, 5, 16, 16))

    def test_a_place_that_is_not_met(self):
        class Branch(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.unused = (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()) for _ in range(2))

            def forward(self, x):
                return self.used(x)

        report = explain(fuse(Branch()), torch.randn(2, 3, 4, 4))
        assert [report[path].runs for path in ("used.0", "unused.0")] == [True, None]
        assert all(report[path].fused for path in ("used.0", "unused.0"))


@native
class TestForwardReplaced:
    """By a wrapper that calls the old one, as accelerate, profilers and patches of one's own do."""

    @pytest.mark.parametrize("kind", ["method", "partial", "closure"])
    def test_what_is_fused_is_reported(self, kind):
        class Block(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm, self.act = nn.BatchNorm2d(3), nn.ReLU()

            def forward(self, x):
                return self.act(self.norm(x))

        model = fuse(Block())
        old = model.forward
        if kind == "method":
            model.forward = types.MethodType(lambda self, x: old(x) + 1, model)
        elif kind == "partial":
            model.forward = functools.partial(lambda module, x: old(x) + 1, model)
        else:
            model.forward = lambda x: old(x) + 1
        x = torch.randn(4, 3, 4, 4)
        with torch.profiler.profile() as profile:
            before = model(x)
        assert any("fastgan::norm_act" in event.key for event in profile.key_averages())
        for report in (explain(model), explain(model, x)):
            assert report["norm"].fused
            assert report.fused == 1
            assert "the forward that was put in place" in report["norm"].conditions
        assert explain(model, x)["norm"].runs is True
        fuse(model)  # looks anew, and keeps what it finds
        assert torch.equal(model(x), before)
        assert explain(model).fused == 1

    def test_a_forward_replaced_before_is_left_alone(self):
        model = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
        model.forward = lambda x: x
        report = explain(fuse(model))
        assert report.fused == 0
        assert "replaced on the object" in report[""].reason
