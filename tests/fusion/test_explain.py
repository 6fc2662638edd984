"""The report of explain."""

from __future__ import annotations

import pytest
from fusion_networks import Generator, Residual
from torch import nn

from fastgan import backend, explain, fuse, unfuse

native = pytest.mark.skipif(backend.choose("norm_act", "cpu") != "native", reason="needs the compiled extension")


class TestReport:
    def test_before_and_after(self):
        network = Generator()
        before = explain(network)
        assert [row.path for row in before] == ["", "main.1", "main.4"]
        assert before["main.1"].pattern == "ConvTranspose2d -> BatchNorm2d -> ReLU"
        assert before["main.1"].reason == "not fused yet"
        assert not any(row.fused for row in before)
        fuse(network)
        after = explain(network)
        assert len(after) == len(before) == 3
        assert "nn.parallel.data_parallel" in after[""].reason
        unfuse(network)
        assert explain(network).rows == before.rows

    @native
    def test_as_data_and_as_text(self):
        network = fuse(nn.Sequential(Residual(), nn.BatchNorm2d(3), nn.Tanh()))
        report = explain(network)
        data = report.to_dict()
        assert data["fused"] == 2
        assert data["rows"][0] == {
            "path": "0.bn1",
            "pattern": "Conv2d -> BatchNorm2d -> ReLU",
            "kernel": "norm_act (native)",
            "fused": True,
            "reason": "",
        }
        lines = str(report).splitlines()
        assert lines[0].split() == ["module", "pattern", "fused", "kernel,", "or", "why", "not"]
        assert [line.split()[0] for line in lines[1:]] == ["0.bn1", "0.bn2", "1"]
        assert lines[1].endswith("yes    norm_act (native)")
        assert "iadd" in lines[2]

    def test_nothing(self):
        report = explain(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        assert len(report) == 0
        assert "nothing to fuse" in str(report)
        with pytest.raises(KeyError, match="nothing at"):
            report["0"]

    def test_says_when_pytorch_runs(self):
        network = fuse(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), backend="torch")
        (row,) = explain(network)
        assert not row.fused
        assert "PyTorch's own modules run" in row.reason

    def test_network_on_a_device_without_kernels(self):
        (row,) = explain(fuse(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()).to("meta")))
        assert "PyTorch's own modules run" in row.reason
        assert "meta" in row.reason

    @native
    def test_children_changed_since(self):
        network = fuse(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
        network.append(nn.BatchNorm2d(3))
        network.append(nn.Tanh())
        assert {row.reason for row in explain(network)} == {"changed since it was fused; fuse again"}
        assert explain(fuse(network)).to_dict()["fused"] == 2
