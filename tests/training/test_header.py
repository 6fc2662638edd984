"""What a training says before its first step."""

import pytest
import torch

from fastgan.messages import duration
from fastgan.systems import create
from fastgan.training import Trainer
from fastgan.training.header import few, weights


@pytest.fixture
def start(tiny, pictures, tmp_path):
    def make(out="run", config=None, **settings):
        system = tiny(**(config or {}))
        return Trainer(system, pictures, out=tmp_path / out, device="cpu", batch_size=8, samples=4, **settings)

    return make


def log(out):
    return [line[32:] for line in (out / "log.txt").read_text().splitlines()]


def test_log_tells_the_start_the_changes_and_the_end(start, pictures, tmp_path, caplog):
    trainer = start(precision="float32")
    trainer.command = "fastgan train dcgan"
    trainer.remarks.append("a remark")
    out = tmp_path / "run"
    with caplog.at_level("INFO", "fastgan"):
        trainer.fit(2)
    first, *lines = log(out)
    assert first.startswith("fastgan train dcgan (fastgan 0.")
    assert f"torch {torch.__version__}" in first
    total = sum(p.numel() for p in trainer.system.parameters()) / 1000
    assert lines[0] == "dcgan on noise: 50 images, 16x16, 1 channel"
    assert lines[1].startswith(f"cpu, 1 thread, float32; {total:.1f} thousand weights: generator ")
    assert lines[2] == f"2 steps in batches of 8; the run is in {out}"
    assert lines[3].startswith("50 images are few: ")
    assert lines[4] == "a remark"
    assert lines[-1].startswith("2 steps done, the last 2 in ")
    assert caplog.messages[:5] == lines[:5]  # the command is what the user has just typed

    Trainer.resume(out, data=pictures, device="cpu", log_every=7).fit(3)
    lines = log(out)
    assert "steps 3 to 3 in batches of 8; the run is in " + str(out) in lines
    changed = next(line for line in lines if "goes on with" in line)
    assert changed.endswith("log_every: 20 -> 7")
    assert sum(line.startswith("50 images are few") for line in lines) == 1  # of a new run


def test_log_tells_that_it_was_stopped(start, tmp_path, monkeypatch):
    trainer = start()
    monkeypatch.setattr(trainer, "interrupted", lambda *_: 2 if trainer.step == 1 else None)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(3)
    assert log(tmp_path / "run")[-1].startswith("stopped at step 1; to go on: fastgan train --resume ")


def test_every_fit_says_it_once(start, tmp_path):
    trainer = start()
    for steps in 1, 2:
        trainer.fit(steps)
    assert sum(line.startswith("dcgan on noise") for line in log(tmp_path / "run")) == 2


@pytest.mark.parametrize(
    ("system", "options", "images", "told"),
    [
        ("dcgan", {}, 4999, True),
        ("dcgan", {}, 5000, False),
        ("dcgan", {}, None, False),
        ("dcgan", {"augment": "cutout"}, 10, False),
        ("dcgan", {"r1": 1.0}, 10, False),
        ("began", {}, 10, False),  # has no logits to penalize
        ("autoencoder", {}, 10, False),
    ],
)
def test_few(system, options, images, told):
    text = few(create(system, resolution=16, width=4, **options), images)
    assert bool(text) is told
    assert not told or "--set r1=1, --set augment=translation,cutout" in text


def test_points_are_never_few():
    assert not few(create("gan", resolution=1, channels=2, width=2), 100)


def test_weights():
    system = create("dcgan", resolution=16, channels=1, width=8, latent=8)
    count = sum(p.numel() for p in system.parameters())
    assert weights(system).startswith(f"{count / 1000:.1f} thousand weights: generator ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9, "1 second"),
        (99, "99 seconds"),
        (150, "2 minutes"),
        (3600, "60 minutes"),
        (12_000, "3 hours 20 minutes"),
        (7200, "2 hours"),
        (100_000, "1 day 3 hours"),
        (260_000, "3 days"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
