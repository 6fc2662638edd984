"""Every system has a case, and no speed where its numbers are not PyTorch's."""

import pytest

from fastgan import backend
from fastgan.bench import isolation
from fastgan.bench.cases import systems
from fastgan.bench.variants import Variant
from fastgan.cli import main
from fastgan.systems import names


@pytest.mark.parametrize("name", names())
def test_both_variants_give_the_same_losses(name, monkeypatch):
    small = {"width": 4} | ({"discriminator_width": 4} if name == "sngan" else {})
    monkeypatch.setitem(systems.OPTIONS, name, {**systems.OPTIONS.get(name, {}), **small})
    systems.check(name, "float32", batch=4)


def test_the_eager_variant_runs_no_op_of_ours(monkeypatch):
    inside = []
    step = systems.Step.__call__
    monkeypatch.setattr(systems.Step, "__call__", lambda *given: inside.append(backend.inside()) or step(*given))
    for variant in systems.SUITE:
        variant.make("gan", "float32", 2)()
    assert inside == ["torch", "auto"]


def test_different_losses_are_not_reported(monkeypatch):
    variants = [Variant("eager", lambda *_: lambda: [1.0]), Variant("fastgan", lambda *_: lambda: [2.0], "ours")]
    monkeypatch.setattr(systems, "SUITE", variants)
    with pytest.raises(isolation.Failed, match=r"its losses are \[2\.0\], eager's \[1\.0\]"):
        systems.check("gan", "float32")


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(systems, "BATCH", 4)
    arguments = ["bench", "systems", "--only", "gan", "--dtype", "float32", "--rounds", "1"]
    assert main([*arguments, "--json", str(tmp_path / "rows.json")]) == 0
    printed = capsys.readouterr().out
    assert "gan 32x32 step" in printed
    assert "fastgan" in printed
    assert main(["bench", "systems", "--only", "gun"]) == 2
    assert "no system 'gun'" in capsys.readouterr().err
