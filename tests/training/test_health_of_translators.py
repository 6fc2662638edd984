"""What goes wrong with systems that translate: each symptom in a run that has it, and not in one that has not."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from fastgan.data import Batch
from fastgan.options import Options, option
from fastgan.systems import Translator
from fastgan.systems.base import Phase
from fastgan.systems.remedies import COPIES, HIDDEN, UNEVEN
from fastgan.systems.signs import change, hiding
from fastgan.systems.translator import Example
from fastgan.training import Trainer
from fastgan.training.health import Watch
from tests.systems.every import noise, rows, small

GRACE, HOLD, LONG = 20, 5, 25  # lines of the log


@dataclass(frozen=True)
class Knobs(Options):
    resolution: int = option(16, "pixels a side", least=4)
    channels: int = option(1, "of an image", least=1)
    times: float = option(-1.0, "what is every pixel, on the way there")
    hide: bool = option(False, "there is one gray, with the picture a thousand times darker in it")
    right_a: float = option(0.6, "of the discriminator a")
    right_b: float = option(0.65, "of the discriminator b")


class Both(Translator):
    """Two ways, without networks that matter."""

    name = "both"
    Config = Knobs
    directions: ClassVar = {"a to b": ("a", "b"), "b to a": ("b", "a")}
    averaged = ()
    paired = False

    def __init__(self, config):
        super().__init__(config)
        self.network = torch.nn.Linear(1, 1)

    def phases(self):
        shares = {"real_right_a": self.config.right_a, "fake_right_a": self.config.right_a,
                  "real_right_b": self.config.right_b, "fake_right_b": self.config.right_b}  # fmt: skip
        logged = {name: torch.tensor(value) for name, value in shares.items()}
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        return [Phase("discriminators", (self.network,), lambda batch: (self.network.weight.sum(), logged), optimizer)]

    def forward(self, images, direction=None, **inputs):
        there = direction != "b to a"
        if self.config.hide:
            return 0.5 + images / 1000 if there else (images - 0.5) * 1000
        return images * self.config.times if there else images / self.config.times


def told(system, tmp_path, caplog, steps):
    """The symptoms of a run, each with what is said of it."""
    settings = {"batch_size": 4, "samples": 2, "sample_every": 0, "evaluate_every": 0, "log_every": 1, "ema": 0.0}
    Trainer(system, noise(system, 8), out=tmp_path / "run", device="cpu", **settings).fit(steps)
    found = [line for line in caplog.messages if " since step " in line]
    return {name: [line for line in found if line.startswith(name)] for name in (COPIES, HIDDEN, UNEVEN)}


def test_a_run_in_which_nothing_is_wrong(tmp_path, caplog):
    assert told(Both(Knobs()), tmp_path, caplog, 60) == {COPIES: [], HIDDEN: [], UNEVEN: []}
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    for name in ("changed/a to b", "changed/b to a", "cycle/a to b", "noisy_cycle/b to a"):
        assert line[name] >= 0


def test_copies(tmp_path, caplog):
    found = told(Both(Knobs(times=0.99, right_a=0.9, right_b=0.9)), tmp_path, caplog, GRACE + HOLD + 10)
    (line,) = found[COPIES]
    assert line.startswith("the generator copies its input since step 21: ")
    assert "pictures change by 0.01 of what is wanted of them. Remedies: a larger learning_rate, or more steps" in line
    assert not found[HIDDEN]


def test_copies_that_fool_the_discriminators_are_what_is_wanted(tmp_path, caplog):
    assert not told(Both(Knobs(times=0.99)), tmp_path, caplog, GRACE + HOLD + 10)[COPIES]


def test_a_cycle_that_hides(tmp_path, caplog):
    (line,) = told(Both(Knobs(hide=True)), tmp_path, caplog, GRACE + HOLD + 10)[HIDDEN]
    assert line.startswith(
        "the cycle hides what it restores since step 21: a to b: after both ways the L1 in [0, 1] is"
    )
    assert "is 0.000, and 6." in line  # noise of 2/255, a thousand times stronger


def test_one_direction_wins(tmp_path, caplog):
    system = Both(Knobs(right_a=0.97, right_b=0.55))
    (line,) = told(system, tmp_path, caplog, GRACE + LONG + 1)[UNEVEN]
    said = "one direction wins since step 21: the discriminator a tells 97 % of the pictures right, b 55 %"
    assert line.startswith(said)


class TestWatch:
    SHARES: ClassVar = {"d/real_right_a": 0.6, "d/fake_right_a": 0.6, "d/real_right_b": 1.0, "d/fake_right_b": 0.96}

    def symptoms(self, values, looks):
        eye = Watch()
        return [symptom.name for number in range(GRACE + looks) for symptom in eye.look(number, values)]

    def test_uneven_must_last_long(self):
        assert self.symptoms(self.SHARES, LONG - 1) == []
        assert self.symptoms(self.SHARES, LONG + 50) == [UNEVEN]

    @pytest.mark.parametrize("other", [{"d/fake_right_a": 0.9}, {"d/fake_right_b": 0.7}])
    def test_not_so_uneven(self, other):
        assert self.symptoms({**self.SHARES, **other}, 100) == []

    @pytest.mark.parametrize(
        ("error", "noisy", "hides"),
        [(0.02, 0.05, True), (0.02, 0.035, False), (0.001, 0.015, False), (0.1, 0.15, False)],
    )
    def test_hidden(self, error, noisy, hides):
        values = {"cycle/x": error, "noisy_cycle/x": noisy, "cycle/y": 0.1, "noisy_cycle/y": 0.1}
        assert self.symptoms(values, 10) == ([HIDDEN] if hides else [])

    def test_the_least_changed_is_the_copy(self):
        values = {"changed/x": 0.9, "changed/y": 0.05}
        eye = Watch()
        (symptom,) = [each for number in range(GRACE + HOLD) for each in eye.look(number, values)]
        assert symptom.seen == "y: pictures change by 0.05 of what is wanted of them"


class TestNumbers:
    def example(self, **given):
        images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return Example("x", "a to b", images, **given)

    def test_change(self):
        example = self.example()
        wanted = example.images.expand(-1, 3, -1, -1) + 0.5
        assert change(example, wanted - 0.5, wanted).item() == 0
        assert change(example, wanted - 0.25, wanted).item() == pytest.approx(0.5, rel=1e-5)
        assert change(example, wanted[..., :4], wanted[..., :4]) is None

    def test_change_in_a_region(self):
        region = torch.zeros(3, 1, 8, 8).bool()
        region[..., :2] = True
        example = self.example(region=region)
        made = torch.where(region, example.images, 0)
        assert change(example, made, example.images + 1).item() == 0

    def test_hiding(self):
        system = Both(Knobs())
        example = self.example()
        found = hiding(system, example, system.translate(example.images, "a to b"), "b to a")
        assert found["cycle"].item() == pytest.approx(0, abs=1e-6)
        assert 0.004 < found["noisy_cycle"].item() < 0.008  # the mean of |noise|, where it is not clamped


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("pix2pix", {}, {"changed/forward"}),
        ("cyclegan", {}, {f"{n}/{d}" for n in ("changed", "cycle", "noisy_cycle") for d in ("a to b", "b to a")}),
        ("pairedcyclegan", {}, {"changed/apply", "changed/remove", "cycle/apply", "noisy_cycle/apply"}),
        ("context-encoder", {}, {"changed/forward"}),
        ("colorization", {}, set()),
        ("srgan", {}, set()),
        ("simgan", {}, set()),
    ],
)
def test_signs_of_each(name, options, expected):
    system = small(name, **options)
    before = {key: value.clone() for key, value in system.state_dict().items()}
    assert system.signs(rows(system, 6), Batch(), {}).keys() == expected
    assert all(torch.equal(value, before[key]) for key, value in system.state_dict().items())


def test_what_to_try():
    systems = {name: small(name) for name in ("pix2pix", "cyclegan", "pairedcyclegan")}
    first = {(name, symptom): [str(r) for r in system.remedies(symptom)][:1]
             for name, system in systems.items() for symptom in (COPIES, HIDDEN, UNEVEN)}  # fmt: skip
    augment = ["augment=translation,cutout"]
    assert first == {
        ("pix2pix", COPIES): ["a larger l1"], ("pix2pix", HIDDEN): [], ("pix2pix", UNEVEN): augment,
        ("cyclegan", COPIES): ["identity=0"], ("cyclegan", HIDDEN): ["a smaller cycle"], ("cyclegan", UNEVEN): augment,
        ("pairedcyclegan", COPIES): ["a larger adversarial"],
        ("pairedcyclegan", HIDDEN): ["a smaller identity"], ("pairedcyclegan", UNEVEN): augment,
    }  # fmt: skip
