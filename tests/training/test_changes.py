"""A run that goes on with other rates: they reach its optimizers, and stay there."""

import pytest
import torch

from fastgan import Trainer
from fastgan.options import options
from fastgan.runs import config
from fastgan.systems import names
from fastgan.systems.registry import find
from tests.systems.every import noise, small
from tests.training.states import same, state

QUIET = {"sample_every": 0, "evaluate_every": 0, "health": False, "precision": "float32", "batch_size": 8}
OTHER = {  # a value that differs from the default, of every option that may change
    "learning_rate": 0.003, "discriminator_learning_rate": 0.002, "adversarial_learning_rate": 0.004,
    "betas": (0.25, 0.75), "adversarial_betas": (0.25, 0.75), "clip_gradients": 0.5, "discriminator_steps": 3,
    "generator_batches": 2, "label_smoothing": 0.1, "label_noise": 0.1, "label_flips": 0.1, "augment": "color",
    "r1": 1.0, "r1_every": 2, "clip": 0.02, "penalty": 3.0, "class_weight": 0.5, "gamma": 0.7, "lambda_k": 0.01,
    "l1": 10.0, "cycle": 5.0, "identity": 0.25, "regularization": 0.1, "pretrain": 2,
    "pixel": 0.5, "adversarial": 0.1, "drop_after": 1, "blocks": 2, "overlap": 1, "perceptual": "none", "content": 0.5,
    "perceptual_layers": "stage1",
    "pretraining": 2, "hints_learning_rate": 1e-4, "adversarial_end": 0.25, "anneal": 4, "style": 0.5,
}  # fmt: skip


def made(name):
    accepted = {field.name for field in find(name).Config.__dataclass_fields__.values()}
    options = {"classes": 4, "labels_per_class": 4} | ({"labelled_batch": 8} if "labelled_batch" in accepted else {})
    return small(name, **options, **({"adversarial": True} if name == "autoencoder" else {}))


def rates(trainer):
    return {p.name: [float(group["lr"]) for group in p.optimizer.param_groups] for p in trainer.train_step.phases}


def test_of_both_players(tiny, pictures, tmp_path, caplog):
    Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **QUIET).fit(2)
    options = {**config.read(tmp_path / "run" / "config.yaml")["options"], "discriminator_learning_rate": 3e-4}
    caplog.set_level("INFO", "fastgan")
    trainer = Trainer.resume(tmp_path / "run", data=pictures, options={**options, "learning_rate": 1e-4})
    assert rates(trainer) == {"discriminator": [3e-4], "generator": [1e-4]}
    saved = state(tmp_path / "run")["optimizers"]["generator"]["state"][0]["exp_avg"]
    assert torch.equal(trainer.train_step.phases[1].optimizer.state_dict()["state"][0]["exp_avg"], saved)
    trainer.fit(4)
    assert "options.learning_rate: 0.0002 -> 0.0001; options.discriminator_learning_rate: None -> 0.0003" in caplog.text
    assert config.read(tmp_path / "run" / "config.yaml")["options"]["learning_rate"] == 1e-4
    again = Trainer.resume(tmp_path / "run", data=pictures)
    assert rates(again) == {"discriminator": [3e-4], "generator": [1e-4]}


def test_decay(tiny, pictures, tmp_path):
    Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **QUIET).fit(2)
    options = config.read(tmp_path / "run" / "config.yaml")["options"]
    decay = {"decay": "linear", "decay_from": 2, "decay_steps": 4}
    trainer = Trainer.resume(tmp_path / "run", data=pictures, options={**options, **decay})
    trainer.fit(5)
    assert rates(trainer)["generator"] == [pytest.approx(1e-4)]  # of step number 4
    options = config.read(tmp_path / "run" / "config.yaml")["options"]
    trainer = Trainer.resume(tmp_path / "run", data=pictures, options={**options, "decay": "none", "decay_steps": 0})
    trainer.fit(6)
    assert rates(trainer)["generator"] == [2e-4]


def test_also_where_it_goes_back(tiny, pictures, tmp_path):
    """To a checkpoint that has the old ones."""
    Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **QUIET).fit(2)
    options = {**config.read(tmp_path / "run" / "config.yaml")["options"], "learning_rate": 1e-4}
    trainer = Trainer.resume(tmp_path / "run", data=pictures, options=options)
    with torch.no_grad():
        trainer.system.discriminator[-1].weight.fill_(float("nan"))
    with pytest.raises(
        FloatingPointError, match=r"go on from there: fastgan train --resume .*run with --lr 5e-05 or --r"
    ):
        trainer.fit(4)
    assert rates(trainer)["generator"] == [1e-4]


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_option_of_every_system(name, tmp_path):
    """A few after the others, each of them taken, and the resume of that the same as no end."""
    system = made(name)
    source = noise(system)
    Trainer(system, source, out=tmp_path / "run", device="cpu", **QUIET).fit(1)
    known = [each.name for each in options(find(name).Config) if each.on_resume in ("differs", "live")]
    left = [option for option in known if not option.startswith("decay")]
    assert len(left) > 2
    step = 1
    while left:
        now, left = {option: OTHER[option] for option in left[:4]}, left[4:]
        asked = {**config.read(tmp_path / "run" / "config.yaml")["options"], **now}
        trainer = Trainer.resume(tmp_path / "run", data=source, options=asked)
        assert {option: getattr(trainer.system.config, option) for option in now} == now
        step += 1
        trainer.fit(step)
    before = state(tmp_path / "run")
    again = Trainer.resume(tmp_path / "run", data=source)
    assert all(
        same(phase.optimizer.state_dict(), before["optimizers"][phase.name]) for phase in again.train_step.phases
    )


def test_an_option_that_is_none(tiny, pictures, tmp_path):
    Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **QUIET).fit(1)
    options = config.read(tmp_path / "run" / "config.yaml")["options"]
    with pytest.raises(ValueError, match=r"has no option 'learning_rat' \(did you mean learning_rate"):
        Trainer.resume(tmp_path / "run", data=pictures, options={**options, "learning_rat": 1e-4})
    with pytest.raises(ValueError, match=r"width: 8 -> 16.*perhaps from the weights of this one"):
        Trainer.resume(tmp_path / "run", data=pictures, options={**options, "width": 16})
