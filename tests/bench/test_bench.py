"""The measuring tools: they interleave, they compute ratios as they say, and they refuse to report wrong results."""

from __future__ import annotations

import json

import pytest
import torch

from fastgan.bench import timing
from fastgan.bench.cases import norm_act, peers, step
from fastgan.bench.variants import Suite, Variant


def test_interleaved_takes_turns() -> None:
    order: list[str] = []
    times = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, least=0)
    assert order == ["a", "a", "b", "b"] + ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3}


def test_rows_and_table() -> None:
    rows = timing.rows("case", {"first": [2.0, 4.0, 6.0], "second": [1.0, 1.0, 2.0]}, {"shape": [1]}, images=8)
    assert [row.ratio for row in rows] == [1.0, 3.0]  # median of 2, 4, 3
    assert rows[1].milliseconds == 1000
    assert rows[1].facts == {"shape": [1], "images/s": 8.0}
    assert "3.00x" in timing.table(rows)


def test_written_rows_say_what_they_were_measured_on(tmp_path) -> None:
    timing.write(tmp_path / "rows.json", timing.rows("case", {"a": [1.0]}, {}))
    written = json.loads((tmp_path / "rows.json").read_text())
    assert written["rows"][0]["variant"] == "a"
    assert written["machine"]["torch"] == torch.__version__
    assert written["machine"]["processor"]


def test_the_plain_peer_is_the_published_network() -> None:
    count = [sum(p.numel() for p in net.parameters()) for net in (peers.generator(), peers.discriminator())]
    assert count == [3_576_704, 2_765_568]


@pytest.mark.slow
def test_step_check_accepts_the_truth_and_refuses_a_lie(monkeypatch) -> None:
    step.check(batch=4, steps=1)
    true = step.DCGANStep.__call__
    monkeypatch.setattr(step.DCGANStep, "__call__", lambda self, images: tuple(v * 1.01 for v in true(self, images)))
    with pytest.raises(timing.WrongResult, match="the DCGAN step"):
        step.check(batch=4, steps=1)


def test_op_check_refuses_a_wrong_kernel(monkeypatch) -> None:
    case = norm_act.NormActCase((4, 8, 4, 4), torch.float32, torch.channels_last)
    case.variants()
    right = norm_act.ops.norm_act
    monkeypatch.setattr(norm_act.ops, "norm_act", lambda *a, **k: right(*a, **{**k, "slope": 0.21}))
    with pytest.raises(timing.WrongResult, match="y is off by"):
        case.variants()


@pytest.mark.parametrize("instance", [False, True])
def test_cases_run(instance: bool) -> None:
    case = norm_act.NormActCase((2, 4, 3, 3), torch.bfloat16, torch.contiguous_format, instance)
    assert [len(call()) for call in case.variants().values()] == [4, 4]


def test_step_variants() -> None:
    assert [variant for variant in step.chosen("none") if variant.role == "compiled"] == []
    assert [variant.name for variant in step.chosen() if variant.role == "compiled"] == [
        "compile, float32 channels_last",
        "compile, bfloat16 channels_last",
    ]
    compiled = [variant for variant in step.chosen("all") if variant.role == "compiled"]
    assert len(compiled) == 6
    for variant in compiled:  # beside the same in eager mode
        eager = step.SUITE[variant.baseline]
        assert (eager.role, eager.dtype, eager.layout) == ("peer", variant.dtype, variant.layout)
    assert {v.name for v in step.chosen("none", "cuda")} - {v.name for v in step.chosen("none")} == {
        "CUDA graph by hand, float32 channels_last",
        "CUDA graph by hand, bfloat16 channels_last",
        "fastgan, defaults, no graph",
    }
    assert next(iter(step.SUITE)).name == "official, float32 contiguous"


def test_the_modes_of_torch_compile(monkeypatch) -> None:
    modes = []
    monkeypatch.setattr(torch, "compile", lambda network, mode: modes.append(mode) or network)
    for variant in step.chosen("all"):
        if variant.role == "compiled":
            variant.make(2)
    assert modes == [None] * 4 + ["reduce-overhead"] * 4 + ["max-autotune"] * 4  # two networks each


def test_any_step_can_be_a_peer(monkeypatch) -> None:
    """Not only stock modules with a transform."""
    made = []
    own = Variant("a loop of one's own", lambda batch, device: made.append((batch, device)) or (lambda: None))
    monkeypatch.setattr(step, "chosen", lambda compiled, device: [step.SUITE["fastgan, float32"], own])
    rows = step.measure(batch=2, rounds=1)
    assert made == [(2, "cpu")]
    assert [(row.variant, row.role) for row in rows] == [("fastgan, float32", "ours"), (own.name, "peer")]


def test_a_name_is_one_variant_s() -> None:
    suite = Suite("m", [Variant("a", lambda: list)])
    with pytest.raises(ValueError, match="there is a variant 'a' already"):
        suite.add(Variant("a", lambda: list))
    with pytest.raises(ValueError, match="no variant 'b'; there are a"):
        suite["b"]


@pytest.mark.slow
def test_step_measures_every_variant(monkeypatch) -> None:
    names = ["official, float32 contiguous", "fastgan, float32"]
    monkeypatch.setattr(step, "chosen", lambda compiled, device: [step.SUITE[name] for name in names])
    rows = step.measure(batch=2, rounds=1, compiled="none")
    assert [row.variant for row in rows] == ["official, float32 contiguous", "fastgan, float32"]
    assert rows[0].facts["images/s"] == pytest.approx(2000 / rows[0].milliseconds, abs=0.1)
