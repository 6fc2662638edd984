"""Trainings that are made to fail, and what the watch says of them."""

import dataclasses
import json
import logging

import pytest
import torch

from fastgan import Trainer
from fastgan.data import load
from fastgan.runs import config
from fastgan.systems import Translator, create, names
from fastgan.systems.gan import GAN
from fastgan.systems.remedies import COLLAPSE, FOOLED, STRONG, Remedy
from fastgan.systems.signs import diversity
from fastgan.training.callbacks.health import advice, first
from tests.systems.every import noise, small

POINTS = {"resolution": 1, "channels": 2, "latent": 8, "width": 8, "discriminator_width": 32}


def made(kind=GAN, **options):
    torch.manual_seed(0)
    return kind(dataclasses.replace(create("gan", **POINTS).config, **options))


def train(system, data, out, steps, **settings):
    quiet = {"sample_every": 0, "checkpoint_every": 0, "evaluate_every": 0, "log_every": 5}
    trainer = Trainer(system, data, out=out, device="cpu", precision="float32", **{**quiet, **settings})
    trainer.fit(steps)
    return trainer


def health_of(trainer):
    return trainer.hooks.state_dict()["health"]


def told(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "fastgan" and r.levelno == logging.WARNING]


class FrozenDiscriminator(GAN):
    """Its discriminator has learned to tell the first samples, and learns no more."""

    def phases(self):
        discriminator, generator = super().phases()
        still = dataclasses.replace(discriminator, optimizer=torch.optim.SGD(self.discriminator.parameters(), lr=0.0))
        return [still, generator]


class Collapsing(GAN):
    """Its generator is trained to make one point of every latent."""

    def generator_loss(self, state):
        loss, logged = super().generator_loss(state)
        return loss + 50 * (state.fake - state.fake.detach().mean(0)).square().sum(1).mean(), logged


def test_a_discriminator_far_too_strong(tmp_path, caplog):
    # The generator stands still, far from the data.
    system = made(learning_rate=1e-12, discriminator_learning_rate=1e-2)
    with torch.no_grad():
        system.generator[-2].bias.fill_(4.0)
    train(system, load("ring", 1, 2), tmp_path / "run", 250)
    (line,) = [line for line in told(caplog) if line.startswith(STRONG)]
    assert "Remedies: r1=1, label_smoothing=0.1" in line
    since = int(line.partition("since step ")[2].partition(":")[0])
    assert 100 < since < 250


def test_a_frozen_discriminator_is_fooled(tmp_path, caplog):
    data = load("ring", 1, 2)
    system = made(learning_rate=1e-12, discriminator_learning_rate=1e-2)
    train(system, data, tmp_path / "first", 60, health=False)
    frozen = made(FrozenDiscriminator, learning_rate=5e-3)
    frozen.load_state_dict(system.state_dict())
    train(frozen, data, tmp_path / "run", 300)
    assert any(line.startswith(FOOLED) for line in told(caplog))


def test_samples_that_are_all_alike(tmp_path, caplog):
    system = made(Collapsing, learning_rate=5e-3)
    trainer = train(system, load("ring", 1, 2), tmp_path / "run", 300)
    assert any(line.startswith(COLLAPSE) for line in told(caplog))
    assert trainer.system.sample(50).std(0).max() < 0.1


def test_a_run_that_goes_well_is_left_alone(tmp_path, caplog):
    system = made(learning_rate=1e-3)
    train(system, load("ring", 1, 2), tmp_path / "run", 200, batch_size=128)
    assert not told(caplog)


class TestRemedy:
    def test_is_applied_and_survives_a_resume(self, tmp_path, caplog):
        system = create("gan", **POINTS, learning_rate=1e-12, discriminator_learning_rate=1e-2)
        with torch.no_grad():
            system.generator[-2].bias.fill_(4.0)
        trainer = train(system, load("ring", 1, 2), tmp_path / "run", 200, remedy="auto")
        assert system.config.r1 == 1.0  # what stands first against samples that are all alike
        assert system.r1.penalty.keywords == {"gamma": 1.0}
        assert any(line.startswith("remedy from step") and line.endswith(": r1=1") for line in told(caplog))
        assert config.read(tmp_path / "run" / "config.yaml")["options"]["r1"] == 1.0
        again = Trainer.resume(tmp_path / "run", data=load("ring", 1, 2))
        assert again.system.r1.penalty.keywords == {"gamma": 1.0}
        assert again.system.r1.calls == system.r1.calls > 0
        assert health_of(again) == health_of(trainer)

    def test_one_after_the_other(self):
        system = create("gan", resolution=8, width=8, latent=8)
        applied = []
        while remedy := first(system, STRONG):
            system.change(**remedy.options)
            applied.append(str(remedy))
        assert applied == [
            "r1=1", "label_smoothing=0.1", "augment=translation,cutout", "label_noise=0.1", "label_flips=0.05",
        ]  # fmt: skip
        assert system.r1.penalty.keywords == {"gamma": 1.0}
        assert system.augment.policy == ("translation", "cutout")

    def test_points_are_not_augmented(self):
        with pytest.raises(ValueError, match=r"of points \(resolution 1\) it must be empty, not 'color'"):
            create("gan", **POINTS, augment="color")
        system = create("gan", **POINTS)
        system.change(r1=1.0, label_smoothing=0.1)
        assert str(first(system, STRONG)) == "label_noise=0.1"

    def test_what_has_no_part_in_a_system_is_not_applied(self):
        system = create("gan", **POINTS, loss="relativistic")  # has no labels
        assert str(first(system, STRONG)) == "r1=1"

    def test_of_a_system_without_any(self):
        system = create("gan", **POINTS)
        assert first(system, "a symptom of another kind") is None
        assert advice([]) == ""

    def test_are_told_by_what_they_take(self):
        said = advice([Remedy("a=1", {"a": 1}), Remedy("a smaller rate"), Remedy("width=9", anew=True)])
        assert said == ". Remedies: a=1, a smaller rate; in a new run: width=9"

    def test_a_resume_takes_a_remedy(self, tmp_path):
        data = load("ring", 1, 2)
        train(create("gan", **POINTS), data, tmp_path / "run", 10)
        options = config.read(tmp_path / "run" / "config.yaml")["options"]
        trainer = Trainer.resume(tmp_path / "run", data=data, options={**options, "r1": 2.0})
        assert trainer.system.r1.penalty.keywords == {"gamma": 2.0}
        with pytest.raises(ValueError, match=r"cannot go on with options\.width: 8 -> 16"):
            Trainer.resume(tmp_path / "run", data=data, options={**options, "width": 16})

    def test_only_live_options_change(self):
        system = create("gan", **POINTS)
        with pytest.raises(ValueError, match=r"what may change in a system at work is label_smoothing, .*, not width"):
            system.change(width=3)
        with pytest.raises(ValueError, match="augment must be any of color, translation, cutout"):
            create("gan", resolution=8, width=8, latent=8).change(augment="noise")


class TestBest:
    def test_by_another_metric(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "cache"))
        trainer = train(made(), load("ring", 1, 2), tmp_path / "run", 20, evaluate_every=10, metric="frechet")
        lines = (tmp_path / "run" / "metrics.jsonl").read_text()
        assert '"frechet"' in lines
        assert "sliced" not in lines
        assert trainer.evaluation.best["step"] in (10, 20)

    def test_where_higher_is_better(self, tmp_path, monkeypatch, caplog):
        scores = iter([0.5, 0.7, 0.1])
        monkeypatch.setattr("fastgan.training.callbacks.evaluation.Evaluation.distance", lambda *_: next(scores))
        settings = {"evaluate_every": 10, "metric": "coverage", "patience": 1}
        trainer = train(made(), load("ring", 1, 2), tmp_path / "run", 50, **settings)
        assert trainer.step == 30
        assert trainer.evaluation.best == {"score": 0.7, "step": 20}
        assert "coverage is 0.1 at step 30, 0.7 at step 20, whose checkpoint is kept as the best" in caplog.text
        assert "no coverage higher than the 0.7 of step 20" in caplog.text

    def test_by_the_name_of_the_literature(self, tmp_path, monkeypatch, caplog):
        caplog.set_level("INFO", "fastgan")
        trainer = Trainer(made(), load("ring", 1, 2), out=tmp_path / "run", metric="kid")
        assert trainer.config.metric == "kernel"
        assert "kid is kernel here: with features of Inception" in caplog.text

    def test_patience_ends_a_run(self, tmp_path, caplog):
        system = made(learning_rate=1e-12, discriminator_learning_rate=1e-12)
        data = load("ring", 1, 2)
        # The averaged generator moves, if at all, in the last bits; the first look stays the best within two more.
        settings = {"evaluate_every": 5, "patience": 2, "ema": 0.0, "health": False}
        trainer = train(system, data, tmp_path / "run", 1000, **settings)
        assert trainer.step < 1000
        assert trainer.step == trainer.evaluation.best["step"] + 10
        ended = f"stopped early at step {trainer.step}: no sliced_wasserstein lower than"
        assert any(line.startswith(ended) for line in told(caplog))
        again = Trainer.resume(tmp_path / "run", data=data)
        again.fit(1000)
        assert again.step == trainer.step
        assert Trainer.resume(tmp_path / "run", data=data, patience=0).config.patience == 0

    def test_says_what_is_wrong(self, tmp_path):
        with pytest.raises(ValueError, match=r"metric must be one of frechet \(fid\), kernel \(kid\), .* not 'recall'"):
            Trainer(made(), load("ring", 1, 2), out=tmp_path / "run", metric="recall")
        with pytest.raises(ValueError, match="evaluate_every must be at least 1, not 0"):
            Trainer(made(), load("ring", 1, 2), out=tmp_path / "run", patience=1, evaluate_every=0)
        with pytest.raises(ValueError, match="remedy must be one of none, auto, not 'all'"):
            Trainer(made(), load("ring", 1, 2), out=tmp_path / "run", remedy="all")


def refuse(word):
    raise ValueError(f"{word} is no JSON")


@pytest.mark.parametrize("name", names())
def test_batches_of_one_image(name, tmp_path, caplog):
    """A step, or one error of ours with nothing left behind; and no NaN in a file."""
    system = small(name, resolution=32, latent=100)
    data = noise(system, 8) if isinstance(system, Translator) else load("digits", 32, 1)
    settings = {"batch_size": 1, "log_every": 1, "samples": 1}
    if name in ("gan", "lsgan", "sgan", "autoencoder", "context-encoder"):
        with pytest.raises(ValueError, match=f"{name} normalises over the batch, .* batch_size must be at least 2"):
            train(system, data, tmp_path / "run", 1, **settings)
        assert not (tmp_path / "run").exists()
        return
    train(system, data, tmp_path / "run", 2, **settings)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        assert not [key for key in json.loads(line, parse_constant=refuse) if key.startswith("diversity")]
    alone = sum("nobody sees whether samples are all alike" in line for line in told(caplog))
    assert alone == (not isinstance(system, Translator))  # which is made of pictures that are not alike


def test_the_diversity_of_one_image_is_not_known():
    images = torch.rand(5, 3, 8, 8)
    assert diversity(images[:1], images) == diversity(images, images[:1]) == {}
    assert all(value.isfinite() for value in diversity(images[:2], images).values())
