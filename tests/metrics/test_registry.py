"""Metrics by name: what the tables, errors and the best checkpoint of a run follow from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastgan.metrics import Metric, evaluate, register, registry

NONE = frozenset[str]()
DOCS = Path(__file__).parents[2] / "docs/evaluation.md"


def brightness(compared) -> float:
    return (compared.real.float().mean() - compared.fake.float().mean()).abs().item()


@pytest.fixture
def registered(monkeypatch):
    """What is registered in a test is gone after it."""
    monkeypatch.setattr(registry, "_metrics", dict(registry._metrics))


class TestOwnMetric:
    def test_is_computed_and_described(self, registered):
        register(Metric("brightness", "difference of mean brightness", "lower", frozenset({"images"}), brightness))
        images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
        scores = evaluate(images // 2, images, metrics=["brightness"])
        assert scores.values["brightness"] == pytest.approx(64, abs=4)
        assert "difference of mean brightness; lower is better" in str(scores)
        assert "features" not in scores.protocol  # nothing was trained for it
        assert "brightness" in evaluate(images, images, features=lambda x: x.flatten(1).float()).values

    def test_can_be_what_the_best_is_told_by(self, registered):
        register(Metric("brightness", "b", "lower", NONE, brightness, best=True))
        assert registry.best_by()["brightness"] == "lower"
        assert registry.to_be_best_by("brightness") == "brightness"

    @pytest.mark.parametrize(
        ("metric", "message"),
        [
            (("frechet", "b", "lower", NONE, brightness), "there is a metric frechet already"),
            (("fid", "b", "lower", NONE, brightness), "there is a metric fid already"),
            (("b", "b", "smaller", NONE, brightness), "better must be lower, higher or one, not 'smaller'"),
            (("b", "b", "one", NONE, brightness, True), "has the lowest or highest value, not 1"),
            (("b", "b", "lower", frozenset({"words"}), brightness), "needs must be of features, .*, not words"),
        ],
    )
    def test_says_what_is_wrong(self, registered, metric, message):
        with pytest.raises(ValueError, match=message):
            register(Metric(*metric))


def test_which_way_is_better():
    assert registry.best_by() == {
        "frechet": "lower", "kernel": "lower", "coverage": "higher", "sliced_wasserstein": "lower",
        "patch_divergence": "lower", "convergence": "lower", "l1": "lower", "psnr": "higher", "psnr_y": "higher",
        "ssim": "higher", "delta_e": "lower", "features": "lower",
    }  # fmt: skip
    assert registry.find("frechet").improves(1, 2)
    assert not registry.find("frechet").improves(2, 1)
    assert registry.find("coverage").improves(2, 1)
    assert not registry.find("coverage").improves(1, 1)


class TestAliases:
    def test_say_what_they_are(self, caplog):
        caplog.set_level("INFO", "fastgan")
        assert [metric.name for metric in registry.chosen(["fid", "kid", "frechet"])] == ["frechet", "kernel"]
        assert "fid is frechet here: with features of Inception" in caplog.text

    def test_are_names_of_values(self):
        images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
        scores = evaluate(images, images, features=lambda x: x.flatten(1).float(), metrics=["fid"])
        assert list(scores.values) == ["frechet"]

    def test_nothing_is_said_of_names(self, caplog):
        caplog.set_level("INFO", "fastgan")
        registry.find("frechet")
        assert not caplog.text


def test_the_docs_have_every_metric():
    rows = [line.split("|")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    there = {name for row in rows for name in row.replace("`", "").replace(" ", "").split(",")}
    assert set(registry.names()) <= there


def test_help_needs_no_torch():
    code = "import sys, fastgan.metrics.registry as r; print(r.summary()); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("frechet (fid), kernel (kid), precision, recall")
