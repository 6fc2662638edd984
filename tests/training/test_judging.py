"""The best checkpoint of a system that translates: by what, on which pictures, beside what costs nothing."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from fastgan.data import load, take
from fastgan.data.fitting import fitted
from fastgan.metrics.translation import evaluate
from fastgan.options import Options, option
from fastgan.systems import Translator, create
from fastgan.systems.base import Phase
from fastgan.training import Trainer
from tests.systems.every import noise, small
from tests.training.states import same, state

SETTINGS = {"batch_size": 2, "samples": 2, "sample_every": 0, "device": "cpu", "evaluate_every": 2, "ema": 0.0}
METRICS = {
    "pix2pix": "l1", "srgan": "psnr_y", "context-encoder": "psnr", "colorization": "psnr",
    "cyclegan": "sliced_wasserstein", "simgan": "sliced_wasserstein", "pairedcyclegan": "sliced_wasserstein",
}  # fmt: skip


def looks(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "data_wait" not in line]


@pytest.mark.parametrize("name", METRICS)
def test_the_metric_of_each(name, tmp_path):
    system = small(name)
    trainer = Trainer(system, noise(system, 6), out=tmp_path / "run", **SETTINGS)
    assert trainer.config.metric == METRICS[name]


def test_makeup_whose_truth_is_known(tmp_path):
    system = small("pairedcyclegan", known="target")
    assert Trainer(system, noise(system, 6), out=tmp_path / "run", **SETTINGS).config.metric == "l1"


@dataclass(frozen=True)
class BrighterConfig(Options):
    resolution: int = option(16, "pixels a side", least=4)
    channels: int = option(3, "of an image", least=1)


class Brighter(Translator):
    """Adds to every pixel what grows by 0.1 each step; the truth is 0.4 brighter."""

    name = "brighter"
    Config = BrighterConfig
    directions: ClassVar = {"forward": ("image", "image")}
    averaged = ()

    def __init__(self, config):
        super().__init__(config)
        self.generator = torch.nn.Linear(1, 1)
        torch.nn.init.zeros_(self.generator.bias)

    def phases(self):
        optimizer = torch.optim.SGD(self.generator.parameters(), lr=0.1)
        return [Phase("generator", (self.generator,), lambda batch: (-self.generator.bias.sum(), {}), optimizer)]

    def forward(self, images, direction=None, **inputs):
        return images + self.generator.bias.view(1, 1, 1, 1)

    def examples(self, batch, generator, paired=None):
        dark = batch.image / 4
        for example in super().examples(batch, generator, paired):
            region = torch.zeros_like(dark[:, :1]).bool()
            region[:, :, :8] = True
            truth = torch.where(region, dark + 0.4, -1.0)  # which must not count below
            yield type(example)("forward", "forward", dark, truth, region=region)


def test_the_best_is_the_nearest_to_the_truth(tmp_path):
    system = Brighter(BrighterConfig())
    data = noise(system, 6)
    trainer = Trainer(system, data, out=tmp_path / "run", **{**SETTINGS, "evaluate_every": 1})
    trainer.fit(7)
    found = looks(tmp_path / "run")
    assert [line["l1"] for line in found] == pytest.approx([0.15, 0.1, 0.05, 0, 0.05, 0.1, 0.15], abs=1e-6)
    assert [line["l1/copy"] for line in found] == pytest.approx([0.2] * 7, abs=1e-6)
    assert trainer.evaluation.best["step"] == 4
    assert "step 1, l1 0.1500 (copy 0.2000)\n" in (tmp_path / "run" / "log.txt").read_text()


def test_where_more_is_better(tmp_path):
    system = Brighter(BrighterConfig())
    settings = {**SETTINGS, "evaluate_every": 1, "metric": "psnr", "patience": 2}
    trainer = Trainer(system, noise(system, 6), out=tmp_path / "run", **settings)
    trainer.fit(20)
    assert trainer.evaluation.best["step"] == 4
    assert trainer.step == 6


@pytest.mark.parametrize("name", ["srgan", "context-encoder", "colorization"])
def test_on_the_part_for_the_test(name, tmp_path, caplog):
    """photos, whose windows are cut at the same places each time: by an evaluation of the checkpoint afterwards."""
    system = small(name, channels=3)
    trainer = Trainer(system, "photos", out=tmp_path / "run", steps=2, **SETTINGS)
    trainer.fit()
    (found,) = looks(tmp_path / "run")
    metric, beside = METRICS[name], {"srgan": "bicubic", "context-encoder": "border mean", "colorization": "gray"}
    scores = evaluate(system, load("photos@test"), samples=128)
    shown = ["0 hints", "10 hints"] if name == "colorization" else ["forward"]
    for key, table in (metric, scores.values), (f"{metric}/{beside[name]}", scores.baseline):
        assert found[key] == pytest.approx(sum(table[example][metric] for example in shown) / len(shown), rel=1e-6)


def test_a_hole_is_judged_inside(tmp_path):
    system = small("context-encoder", channels=3)
    rows = take(fitted(load("photos@test"), system.inputs()), 4)
    (example,) = system.examples(rows, torch.Generator().manual_seed(0))
    made = system.translate(example.images)
    inside = example.region.expand_as(made)
    squares = [((m - t)[r] / 2).square().mean() for m, t, r in zip(made.double(), example.truth.double(), inside)]
    expected = -10 * torch.stack(squares).log10().mean()
    found = evaluate(system, load("photos@test"), samples=4, metrics=["psnr"])
    assert found.values == {"forward": {"psnr": pytest.approx(expected.item(), rel=1e-6)}}


def test_on_pictures_that_it_has_seen_it_says_so(tmp_path, caplog):
    caplog.set_level("INFO", "fastgan")
    system = small("pix2pix")
    Trainer(system, noise(system, 6), out=tmp_path / "run", steps=4, **SETTINGS).fit()
    said = "l1 is of pictures that the run is trained on: its data have no part for the test"
    assert sum(said in line for line in caplog.messages) == 1


@pytest.mark.parametrize(("name", "metric"), [("pix2pix", "auto"), ("cyclegan", "frechet")])
def test_goes_on_bit_for_bit(name, metric, tmp_path):
    data = noise(small(name), 7)

    def trainer(out):
        torch.manual_seed(0)
        return Trainer(small(name), data, out=tmp_path / out, metric=metric, **{**SETTINGS, "ema": 0.9})

    trainer("straight").fit(6)
    trainer("stopped").fit(3)
    Trainer.resume(tmp_path / "stopped", data=data).fit(6)
    straight, stopped = (state(tmp_path / out) for out in ("straight", "stopped"))
    assert same(straight["system"], stopped["system"])
    assert straight["callbacks"]["evaluation"] == stopped["callbacks"]["evaluation"]
    assert straight["config"]["metric"] == (METRICS[name] if metric == "auto" else metric)
    assert looks(tmp_path / "straight") == looks(tmp_path / "stopped")


def test_a_look_changes_nothing(tmp_path):
    data = noise(small("pix2pix"), 7)
    for out, every in ("looked", 1), ("blind", 0):
        torch.manual_seed(0)
        Trainer(small("pix2pix"), data, out=tmp_path / out, **{**SETTINGS, "evaluate_every": every}).fit(3)
    looked, blind = (state(tmp_path / out) for out in ("looked", "blind"))
    assert same(looked["system"], blind["system"])
    assert same(looked["random"], blind["random"])


class TestErrors:
    @pytest.mark.parametrize("name", ["dcgan", "cyclegan", "simgan"])
    def test_no_truth(self, name, tmp_path):
        system = small(name)
        message = rf"metric l1 needs translated pictures of which the truth is known, which {name} on .* has not"
        with pytest.raises(ValueError, match=message + ": take one of frechet, .*, not l1"):
            Trainer(system, noise(system, 6), out=tmp_path / "run", **{**SETTINGS, "metric": "l1"})
        assert not (tmp_path / "run").exists()

    def test_colors(self, tmp_path):
        system = small("pix2pix")
        with pytest.raises(ValueError, match="metric delta_e needs pictures in colors, which pix2pix on noise has not"):
            Trainer(system, noise(system, 6), out=tmp_path / "run", **{**SETTINGS, "metric": "delta_e"})


@pytest.mark.slow
def test_domains_whose_test_rows_are_pairs_have_a_truth(tmp_path):
    system = create("cyclegan", resolution=16, channels=3, width=4, blocks=1, layers=1)
    trainer = Trainer(system, "styles", out=tmp_path / "run", metric="l1", steps=2, **SETTINGS)
    trainer.fit()
    (found,) = looks(tmp_path / "run")
    assert trainer.evaluation._kept.name == "styles@test"
    scores = evaluate(system, trainer.evaluation._kept, metrics=["l1"])
    assert found["l1"] == pytest.approx(sum(values["l1"] for values in scores.values.values()) / 2, rel=1e-6)
