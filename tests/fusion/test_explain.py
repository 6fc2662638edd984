"""The report of explain."""

from __future__ import annotations

import json

import pytest
from torch import nn

from fastgan import backend, explain, fuse, unfuse
from tests.fusion.fusion_networks import Generator, Residual

native = pytest.mark.skipif(backend.choose("norm_act", "cpu") != "native", reason="needs the compiled extension")


TABLE = """
module  pattern                          fused  kernel, or why not
0.bn1   Conv2d -> BatchNorm2d -> ReLU    yes    norm_act (native)
0.bn2   Conv2d -> BatchNorm2d            yes    norm_act (native), the norm alone: the norm is followed by +=, not by an
                                                activation
1       Residual -> BatchNorm2d -> Tanh  yes    norm_act (native)
3       Conv2d -> GELU                   no     no kernel for GELU
norm_act (native): on cpu; float32, bfloat16, float16, float64; contiguous or channels_last, others are copied; with a
  batch dimension; not inside torch.func, forward-mode differentiation, torch.jit.trace, torch.export; else PyTorch's
  own modules run
3 of 4 places fused
"""


class TestReport:
    def test_before_and_after(self):
        network = Generator()
        before = explain(network)
        assert [row.path for row in before] == ["", "main.0", "main.1", "main.4", "main.6"]
        assert before["main.1"].pattern == "ConvTranspose2d -> BatchNorm2d -> ReLU"
        assert before["main.1"].reason == "not fused yet"
        assert not any(row.fused for row in before)
        fuse(network)
        after = explain(network)
        assert len(after) == len(before) == 5
        assert after.places == before.places == 4
        assert [row.kind for row in after] == ["module", *["place"] * 4]
        assert "nn.parallel.data_parallel" in after[""].reason
        unfuse(network)
        assert explain(network).rows == before.rows

    @native
    def test_as_data_and_as_text(self):
        network = fuse(nn.Sequential(Residual(), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 3, 1), nn.GELU()))
        report = explain(network)
        assert (report.fused, report.places) == (3, 4)
        data = report.to_dict()
        assert (data["fused"], data["places"]) == (3, 4)
        assert data["rows"][1] == {
            "path": "0.bn2",
            "pattern": "Conv2d -> BatchNorm2d",
            "kernel": "norm_act (native)",
            "fused": True,
            "reason": "",
            "note": "the norm is followed by +=, not by an activation",
            "conditions": "on cpu; float32, bfloat16, float16, float64; contiguous or channels_last, others are "
            "copied; with a batch dimension; not inside torch.func, forward-mode differentiation, torch.jit.trace, "
            "torch.export",
            "runs": None,
            "kind": "place",
        }
        assert json.loads(report.to_json()) == data
        assert str(report) == TABLE.strip()

    def test_long_tables(self):
        """120 columns hold them, and nothing is cut off."""

        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                inner = nn.ModuleDict(
                    {"discriminator_of_the_other_domain": nn.Sequential(nn.BatchNorm2d(3), nn.PReLU())}
                )
                self.first_stage_of_the_pyramid = inner
                self.conv = nn.utils.parametrizations.orthogonal(nn.ConvTranspose2d(3, 3, 1))
                self.act = nn.LeakyReLU()

            def forward(self, x):
                return self.act(self.conv(x)) if x.sum() else x

        report = explain(nn.Sequential(Network(), nn.utils.parametrizations.orthogonal(nn.ConvTranspose2d(3, 3, 1)),
                                       nn.LeakyReLU()))  # fmt: skip
        text = str(report)
        assert max(map(len, text.splitlines())) <= 120
        for row in report:
            for part in (row.pattern, *row.reason.split()):
                assert part in text
            assert row.path in "".join(line[:32].rstrip() for line in text.splitlines())

    @pytest.mark.parametrize(
        ("network", "summary"),
        [
            (nn.Sequential(nn.BatchNorm2d(3)), "0 of 1 place fused"),
            (nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)), "0 of 2 places fused"),
            (Generator(), "0 of 4 places fused, 1 module left as it is"),
            (nn.Sequential(Generator(), Generator()), "0 of 8 places fused, 2 modules left as they are"),
        ],
    )
    def test_summary(self, network, summary):
        assert str(explain(network)).splitlines()[-1] == summary

    @native
    def test_conditions_once(self):
        network = nn.Sequential(nn.BatchNorm2d(3), nn.PReLU(), nn.BatchNorm2d(3), nn.ReLU())
        rows = explain(network).rows
        assert [row.conditions.endswith("; prelu: under autocast, in its dtype") for row in rows] == [True, False]
        text = " ".join(str(explain(network)).split())
        assert text.count("float32, bfloat16") == text.count("prelu: under autocast, in its dtype") == 1

    def test_nothing(self):
        report = explain(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
        assert len(report) == 0
        assert str(report) == "nothing to fuse: no batch or instance norm, and no convolution before an activation"
        assert report.to_dict() == {"fused": 0, "places": 0, "rows": []}
        with pytest.raises(KeyError, match="nothing at"):
            report["0"]

    def test_says_when_pytorch_runs(self):
        network = fuse(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), backend="torch")
        (row,) = explain(network)
        assert not row.fused
        assert row.reason == "PyTorch's own modules run: the backend is torch"
        assert row.conditions == ""

    def test_network_on_a_device_without_kernels(self):
        (row,) = explain(fuse(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()).to("meta")))
        assert "PyTorch's own modules run" in row.reason
        assert "meta" in row.reason

    @native
    def test_activation_changed_since(self):
        """The norm was fused with an activation, and neither is while that is one without a kernel."""
        network = fuse(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
        network[1] = nn.GELU()
        (row,) = explain(network)
        assert (row.reason, row.note) == ("changed since it was fused; fuse again", "no kernel for GELU")
        (row,) = explain(fuse(network))
        assert row.fused
        network[1] = nn.Tanh()
        assert not explain(network)["0"].fused
        network = fuse(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
        network[1] = nn.Tanh()
        assert explain(network)["0"].fused  # what is read at each call

    @native
    def test_children_changed_since(self):
        network = fuse(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
        network.append(nn.BatchNorm2d(3))
        network.append(nn.Tanh())
        assert {row.reason for row in explain(network)} == {"changed since it was fused; fuse again"}
        assert explain(fuse(network)).fused == 2
