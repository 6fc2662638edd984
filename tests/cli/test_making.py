"""The same words make the same model in Python and on the command line, of our systems and of a user's own."""

import textwrap
import typing

import pytest
import torch

from fastgan import Trainer
from fastgan.cli import main
from fastgan.options import options
from fastgan.runs import Config, config
from fastgan.runs.typed import Changes, Given
from fastgan.systems import create
from fastgan.systems.gan import GAN
from tests.training.states import same, state

WORDS = {"seed": 7, "batch_size": 4, "steps": 1, "samples": 2, "device": "cpu", "width": 4, "latent": 5}
MINE = """
    from __future__ import annotations

    from dataclasses import dataclass

    from fastgan.options import option
    from fastgan.systems.gan import GAN, GANConfig

    @dataclass(frozen=True)
    class Config(GANConfig):
        color: str = option("red", "of the frame", choices=("red", "blue"))
        weight: float = option(1.0, "of it", least=0, on_resume="differs")

    class Mine(GAN):
        '''One of the user's.'''

        name = "mine"
        Config = Config
"""


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "my.py"
    file.write_text(textwrap.dedent(MINE))
    return f"{file}:Mine"


def command(system, out, words, *more):
    flags = [word for name, value in words.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["train", system, *flags, *more, "--out", str(out)]) == 0


@pytest.mark.parametrize(
    ("system", "data"), [("dcgan", "digits"), ("gan", "ring"), ("acgan", "digits"), ("dcgan", "emoji")]
)
@pytest.mark.parametrize("preset", [None, "paper"])
def test_same_words_same_weights(system, data, preset, tmp_path):
    command(system, tmp_path / "a", {**WORDS, "data": data}, *(["--preset", preset] if preset else []))
    Trainer(system, data, out=tmp_path / "b", preset=preset, **WORDS).fit()
    assert config.read(tmp_path / "a" / "config.yaml") == config.read(tmp_path / "b" / "config.yaml")
    first, second = state(tmp_path / "a"), state(tmp_path / "b")
    assert same(first["system"], second["system"])
    assert same(first["ema"], second["ema"])
    if preset is None:
        Trainer(GAN if system == "gan" else system, data, out=tmp_path / "c", **{**WORDS, "seed": 8}).fit()
        assert not same(first["system"], state(tmp_path / "c")["system"])


def test_a_system_of_the_users(mine, tmp_path, capsys, error):
    command(mine, tmp_path / "run", {**WORDS, "data": "digits"}, "--set", "color=blue")
    assert config.read(tmp_path / "run" / "config.yaml")["options"]["color"] == "blue"
    assert (
        main(["train", "--resume", str(tmp_path / "run"), "--system", mine, "--steps", "2", "--set", "weight=2"]) == 0
    )
    assert config.read(tmp_path / "run" / "config.yaml")["options"]["weight"] == 2.0
    assert Trainer.resume(tmp_path / "run", system=mine).step == 2
    capsys.readouterr()
    assert main(["systems", mine]) == 0
    assert "of the frame (red, blue)" in capsys.readouterr().out
    assert "color: blue -> red" in error("train", mine, "--resume", tmp_path / "run", "--set", "color=red")
    assert "color must be one of red, blue, not 'green'" in error("train", mine, "--set", "color=green")
    assert "did you mean color?" in error("train", mine, "--set", "colour=red")
    assert "as --system my.py:MyGAN" in error("train", "--resume", tmp_path / "run", "--steps", "3")


def test_says_what_is_wrong(tmp_path):
    out, made = tmp_path / "run", create("gan", width=4, latent=4)
    with pytest.raises(ValueError, match=r"neither dcgan nor the training has an option 'widht' \(did you mean width"):
        Trainer("dcgan", "digits", out=out, widht=3)
    with pytest.raises(ValueError, match=r"system wgan has no option 'betas': RMSprop"):
        Trainer("wgan", "digits", out=out, betas=(0.5, 0.9))
    with pytest.raises(ValueError, match="a preset makes a system of a name, not of one that is made"):
        Trainer(made, "digits", out=out, preset="quick")
    with pytest.raises(ValueError, match="preset must be one of quick, paper, not 'slow'"):
        Trainer("dcgan", "digits", out=out, preset="slow")
    with pytest.raises(TypeError, match=r"system must be a fastgan System.*not Linear"):
        Trainer(torch.nn.Linear(1, 1), "digits", out=out)
    assert not out.exists()


def test_one_that_is_made_is_taken_as_it_is(tmp_path):
    system = create("gan", width=4, latent=5)
    assert Trainer(system, "digits", out=tmp_path / "run", device="cpu").system is system


def test_editors_know_every_setting():
    hints = {each.name: each.hint for each in options(Config) if each.name not in ("system", "options", "data")}
    typed = typing.get_type_hints(Given)
    assert typed.keys() == hints.keys()
    assert {name: hint for name, hint in typed.items() if hint != hints[name]}.keys() == {"init_from"}  # a path, too
    assert typing.get_type_hints(Changes).keys() - typed.keys() == {"options"}
