"""Translations measured, beside what costs nothing."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from fastgan.data import Apart, ImageData, Together
from fastgan.metrics.translation import evaluate
from fastgan.options import Options, option
from fastgan.systems import Translator
from fastgan.systems.translator import Example


@dataclass(frozen=True)
class Plain(Options):
    resolution: int = option(16, "pixels a side", least=4)
    channels: int = option(3, "of an image", least=1)
    add: float = option(0.0, "to every pixel")


class Brighter(Translator):
    """Adds a number one way, and takes it away the other."""

    name = "brighter"
    Config = Plain
    directions: ClassVar = {"a to b": ("a", "b"), "b to a": ("b", "a")}
    paired = False

    def __init__(self, config):
        super().__init__(config)
        self.add = torch.nn.Parameter(torch.tensor(config.add))

    def phases(self):
        return []

    def forward(self, images, direction=None, **inputs):
        return images + (-self.add if direction == "b to a" else self.add)


class OneWay(Brighter):
    directions: ClassVar = {"forward": ("a", "b")}
    paired = True


def data(paired: bool, count: int = 24, by: int = 51):
    """b is a, brighter by 51 of 255, which is 0.4 in [-1, 1] and 0.2 in [0, 1]."""
    dark = torch.randint(0, 200, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    a, b = ImageData(dark, name="a"), ImageData(dark + by, name="b")
    if paired:
        return Together("both", {"a": (a, "image"), "b": (b, "image")})
    return Apart("both", [Together("a", {"a": (a, "image")}), Together("b", {"b": (b, "image")})])


def test_the_truth_is_found_and_the_copy_is_not_it():
    found = evaluate(OneWay(Plain(add=0.4)), data(True))
    made, copy = found.values["forward"], found.baseline["forward"]
    assert made.keys() == {"l1", "psnr", "ssim", "delta_e", "features"}
    assert made["l1"] == pytest.approx(0, abs=1e-6)
    assert made["ssim"] == pytest.approx(1, abs=1e-4)
    assert copy["l1"] == pytest.approx(0.2, abs=1e-6)
    assert made["delta_e"] < 0.01
    assert copy["delta_e"] > 10
    assert copy["psnr"] == pytest.approx(13.98, abs=0.01)
    assert made["features"] < copy["features"]
    assert found.baselines == {"forward": "copy"}


def test_domains_whose_truth_is_hidden():
    found = evaluate(Brighter(Plain(add=0.4)), data(False))
    for name in ("a to b", "b to a"):
        assert found.values[name].keys() == {"frechet", "cycle"}
        assert found.values[name]["frechet"] < found.baseline[name]["frechet"]
        assert found.baseline[name].keys() == {"frechet"}


def test_domains_drawn_together_have_a_truth():
    found = evaluate(Brighter(Plain(add=0.4)), data(True))
    assert found.values["a to b"].keys() == {
        "l1", "psnr", "ssim", "delta_e", "features", "retrieval", "frechet", "cycle"
    }  # fmt: skip
    assert found.values["a to b"]["retrieval"] == 1
    assert found.values["a to b"]["l1"] < 1e-6


def test_table_and_json():
    found = evaluate(OneWay(Plain(add=0.4)), data(True), samples=5)
    text = str(found)
    assert "forward" in text
    assert "  copy" in text
    rows = json.loads(found.json())
    assert rows["examples"]["forward"]["of_baseline"]["l1"] == pytest.approx(0.2, abs=1e-6)
    assert rows["protocol"]["rows"] == 5


class TestErrors:
    def test_what_does_not_translate(self):
        with pytest.raises(TypeError, match="translations are of a Translator, not of Linear"):
            evaluate(torch.nn.Linear(1, 1), data(True))

    def test_what_has_diverged(self):
        system = OneWay(Plain())
        torch.nn.init.constant_(system.add, torch.nan)
        with pytest.raises(FloatingPointError, match="forward: translations hold NaN or infinity"):
            evaluate(system, data(True))

    def test_samples(self):
        with pytest.raises(ValueError, match="samples must be a positive integer, not 0"):
            evaluate(OneWay(Plain()), data(True), samples=0)


class Beside(OneWay):
    """Its truth is not what the domain of its results holds: that of another row is nearest in the domain."""

    takes: ClassVar = {"reference": "of the domain"}
    directions: ClassVar = {"there": ("a", "b"), "back": ("b", "a")}
    paired = False

    def examples(self, batch, generator, paired=None):
        yield Example("there", "there", batch.a, batch.b, {"reference": batch.b})
        yield Example("back", "back", batch.b.flip(0), batch.a.flip(0))


def test_truths_are_retrieved_among_truths_and_no_way_back_lacks_its_reference():
    found = evaluate(Beside(Plain(add=-0.4)), data(True))
    assert found.values["back"]["retrieval"] == 1
    assert not any("cycle" in values for values in found.values.values())
