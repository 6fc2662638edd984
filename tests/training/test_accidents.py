"""What can happen to a run: killed, disk full, directory gone, a second trainer, values that are not finite."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fastgan.runs import checkpoint, config, run
from fastgan.training import Trainer
from fastgan.training.nonfinite import not_finite
from tests.forks import Forks, killed_after
from tests.training.rank_run import pictures as noise
from tests.training.states import best_of, same, state

SCRIPT = Path(__file__).with_name("rank_run.py")


@pytest.fixture
def start(tiny, tmp_path):
    every = {"sample_every": 4, "checkpoint_every": 3, "log_every": 2, "samples": 4, "batch_size": 8}

    def make(out="run", **settings):
        return Trainer(tiny(), noise(), out=tmp_path / out, device="cpu", **{**every, **settings})

    return make


def at(trainer, step, act):
    """`act` once, before the step after `step`."""
    advance, pending = trainer.advance, [act]

    def wrapped(*arguments):
        if trainer.step == step and pending:
            pending.pop()()
        advance(*arguments)

    trainer.advance = wrapped


@pytest.mark.processes
def test_killed_at_random_instants_ends_in_the_same_bits(tmp_path, seed):
    """200 steps, which take a second; a process that is to be killed waits for it before the last ones. The last
    process, which goes on to the end, is a fresh one, with other hashes."""
    settings = ("float32", "checkpoint_every=20", "evaluate_every=20")
    out = tmp_path / "killed"
    with Forks(SCRIPT) as forks:
        straight = forks.start(tmp_path / "straight", 200, *settings)
        assert straight.wait() == 0, straight.error()
        for instant in (0.5 * torch.rand(3, generator=torch.Generator().manual_seed(seed))).tolist():
            killed_after(instant, forks.start(out, 180, *settings, STAYS="1"), out)
    command = [sys.executable, str(SCRIPT), str(out), "200", *settings]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert same(state(out), state(tmp_path / "straight"))
    lines = [(tmp_path / out / "metrics.jsonl").read_text().splitlines() for out in ("killed", "straight")]
    assert [line.split('"images_per_second"')[0] for line in lines[0]] == [
        line.split('"images_per_second"')[0] for line in lines[1]
    ]


def removed(folder):
    """TensorBoard's thread may write a file into a directory that is being removed."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


class TestDisk:
    @pytest.mark.slow
    def test_full_while_saving(self, start, tmp_path):
        """A limit on the size of files stands for the full disk: writing fails in the middle in the same way."""
        trainer = start()
        trainer.fit(3)
        before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
            with pytest.raises(
                OSError, match=r"could not write the checkpoint \(File too large\); the one before stays"
            ):
                trainer.fit(6)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, ignored)
        assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
        assert not [name for name in os.listdir(tmp_path / "run") if name.endswith(".tmp")]
        straight = start("straight")
        straight.fit(6)
        Trainer.resume(tmp_path / "run", data=noise(), device="cpu").fit(6)
        assert same(state(tmp_path / "run"), state(tmp_path / "straight"))

    def test_full_while_renaming(self, start, tmp_path, monkeypatch):
        trainer = start()
        trainer.fit(3)
        before = (tmp_path / "run" / "checkpoint.pt").read_bytes()

        def full(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"could not write the checkpoint \(No space left on device\)"):
            trainer.fit(6)
        assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before

    def test_directory_deleted(self, start, tmp_path):
        trainer = start()
        at(trainer, 2, lambda: removed(tmp_path / "run"))
        with pytest.raises(OSError, match=r"metrics\.jsonl|checkpoint"):
            trainer.fit(6)
        trainer = start("other", log_every=100, sample_every=100)
        at(trainer, 2, lambda: removed(tmp_path / "other"))
        with pytest.raises(OSError, match=r"its directory was deleted or moved meanwhile.*checkpoint\.pt"):
            trainer.fit(6)
        assert not (tmp_path / "other").exists()


def test_clock_that_jumps(start, tmp_path, monkeypatch):
    jumps, real = iter(range(10**9)), time.time
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(jumps) * 1e9)
    start().fit(6)
    monkeypatch.undo()
    start("straight").fit(6)
    assert same(state(tmp_path / "run"), state(tmp_path / "straight"))


class TestSecondTrainer:
    def test_is_refused_while_the_first_works(self, start, tmp_path):
        trainer = start()
        second = start()
        refused = []

        def try_it():
            with pytest.raises(
                RuntimeError, match=rf"another trainer is at work in .*run \(process {os.getpid()} on"
            ) as e:
                second.fit(3)
            refused.append(e)

        at(trainer, 4, try_it)
        trainer.fit(6)
        assert refused
        assert state(tmp_path / "run")["step"] == 6

    @pytest.mark.processes
    def test_in_another_process(self, start, tmp_path):
        trainer = start(checkpoint_every=2)
        command = [sys.executable, str(SCRIPT), str(tmp_path / "run"), "9", "float32"]
        done = []
        at(trainer, 4, lambda: done.append(subprocess.run(command, capture_output=True, text=True)))
        trainer.fit(6)
        assert done[0].returncode == 1
        assert f"another trainer is at work in {tmp_path / 'run'} (process {os.getpid()}" in done[0].stderr
        assert state(tmp_path / "run")["step"] == 6

    def test_is_refused_after_the_first_has_saved(self, start, tmp_path):
        first, second = start(), start()
        first.fit(3)
        before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
        with pytest.raises(FileExistsError, match=r"another trainer has saved a checkpoint in .*run since"):
            second.fit(6)
        third = Trainer.resume(tmp_path / "run", data=noise(), device="cpu")
        assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
        first.fit(6)
        with pytest.raises(FileExistsError, match="another trainer has saved"):
            third.fit(9)

    @pytest.mark.processes
    def test_the_lock_ends_with_its_process(self, start, tmp_path):
        with Forks(SCRIPT) as forks:
            killed_after(1.0, forks.start(tmp_path / "run", 180, "float32", STAYS="1"), tmp_path / "run")
        trainer = Trainer.resume(tmp_path / "run", data=noise(), device="cpu")
        trainer.fit(trainer.step + 1)


class TestCheckpointOfSomethingElse:
    """Whole files, with checksums that are right."""

    @pytest.fixture
    def out(self, start, tmp_path):
        start().fit(3)
        return tmp_path / "run"

    def resume(self, out):
        return Trainer.resume(out, data=noise(), device="cpu")

    @pytest.mark.parametrize(
        ("change", "message"), [({"seed": 5}, "seed: 5 -> 0"), ({"samples": 9}, "samples: 9 -> 4")]
    )
    def test_of_another_run(self, start, out, tmp_path, change, message):
        start("other", **change).fit(3)
        shutil.copy(tmp_path / "other" / "checkpoint.pt", out)
        with pytest.raises(ValueError, match=f"cannot go on with .*{message}"):
            self.resume(out)

    def test_of_other_networks(self, start, out, tiny, tmp_path):
        Trainer(tiny(width=4), noise(), out=tmp_path / "other", device="cpu", batch_size=8, samples=4).fit(1)
        mine, other = state(out), state(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "checkpoint.pt", out)
        with pytest.raises(ValueError, match=r"options\.width: 4 -> 8"):
            self.resume(out)
        checkpoint.save(out / "checkpoint.pt", {**other, "config": mine["config"]})
        with pytest.raises(ValueError, match=r"networks in .* are not those of dcgan with these options"):
            self.resume(out)

    @pytest.mark.parametrize("name", sorted(run._STATE))
    def test_parts_missing_or_of_another_kind(self, out, name):
        good, three = state(out), 3
        for value in (..., three, "x", [], {}, {"a": torch.zeros(2)}, torch.zeros(2), None):
            if (name in ("versions", "callbacks") and isinstance(value, dict)) or (name == "ema" and value is None):
                continue
            if name == "step" and value is three:
                continue
            bad = {key: item for key, item in {**good, name: value}.items() if item is not ...}
            checkpoint.save(out / "checkpoint.pt", bad)
            with pytest.raises((ValueError, TypeError), match=r"checkpoint\.pt|cannot go on|other data|epoch"):
                self.resume(out)


class TestNotFinite:
    def poison(self, trainer, step, name, value, times=1):
        """At that step, each of `times` times it comes, the gradient of a weight gets a value that is not finite."""
        parameter = dict(trainer.system.named_parameters())[name]
        left = [None] * times

        def hook(gradient):
            if trainer.step == step and left:
                left.pop()
                gradient = gradient.clone()
                gradient[(0,) * gradient.dim()] = value
            return gradient

        parameter.register_hook(hook)

    @pytest.mark.parametrize(
        ("name", "value", "word", "phase"),
        [
            ("discriminator.1.conv.weight", float("inf"), "infinite", "discriminator"),
            ("generator.1.norm.bias", float("nan"), "nan", "generator"),
        ],
    )
    def test_names_tensor_phase_and_step(self, start, tmp_path, name, value, word, phase):
        trainer = start(log_every=6)
        self.poison(trainer, 4, name, value, times=9)
        text = (
            rf"the gradient of {name} became {word} in phase {phase} of step 5\. .* checkpoint of step 3, from before"
        )
        with pytest.raises(FloatingPointError, match=text):
            trainer.fit(12)
        assert trainer.step == state(tmp_path / "run")["step"] == 3
        assert not_finite(trainer.system.state_dict().items()) is None

    def test_a_checkpoint_is_never_of_such_weights(self, start, tmp_path):
        """The last step before a checkpoint: no loss has seen the weights yet."""
        trainer = start()
        self.poison(trainer, 5, "generator.1.norm.bias", float("nan"), times=9)
        with pytest.raises(FloatingPointError, match=r"generator\.1\.norm\.bias became nan in .* of step 6"):
            trainer.fit(12)
        assert state(tmp_path / "run")["step"] == 3

    def test_goes_back_and_on_if_asked(self, start, tmp_path, caplog):
        trainer = start(retries=2)
        self.poison(trainer, 4, "generator.1.norm.bias", float("nan"), times=2)  # and once more, to find its name
        trainer.fit(9)
        assert state(tmp_path / "run")["step"] == 9
        assert "back at step 3, try 1 of 2" in caplog.text
        start("straight").fit(9)
        assert same(state(tmp_path / "run")["batches"], state(tmp_path / "straight")["batches"])
        assert not same(state(tmp_path / "run")["system"], state(tmp_path / "straight")["system"])
        steps = [line.split(",")[0] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert steps == [f'{{"step": {step}' for step in (2, 4, 6, 8)]

    def test_not_for_ever(self, start, tmp_path, caplog):
        trainer = start(retries=2)
        self.poison(trainer, 4, "generator.1.norm.bias", float("nan"), times=99)
        with pytest.raises(FloatingPointError, match="back at its checkpoint of step 3"):
            trainer.fit(9)
        assert "try 2 of 2" in caplog.text
        assert "try 3" not in caplog.text
        assert state(tmp_path / "run")["step"] == 3

    def test_what_does_not_come_again(self, start):
        trainer = start()
        self.poison(trainer, 4, "generator.1.norm.bias", float("nan"))
        with pytest.raises(FloatingPointError, match=r"discriminator/loss became nan in the 2 steps before step 6\. "):
            trainer.fit(9)

    def test_from_the_beginning(self, start, tmp_path):
        trainer = start()
        with torch.no_grad():
            next(trainer.system.generator.parameters()).fill_(float("inf"))
        with pytest.raises(FloatingPointError, match=r"system\.generator\.\S+ is infinite after step 0: .* cannot be"):
            trainer.fit(3)
        assert not (tmp_path / "run" / "checkpoint.pt").exists()

    @pytest.mark.parametrize(
        ("tensors", "expected"),
        [
            ({}, None),
            ({"a": torch.zeros(3), "n": torch.tensor(2), "e": torch.zeros(0), "x": None}, None),
            ({"a": torch.zeros(3), "b": torch.tensor([1.0, float("nan")])}, ("b", "nan")),
            ({"b": torch.tensor([-float("inf"), 2.0]), "c": torch.tensor(float("nan"))}, ("b", "infinite")),
            ({"h": torch.full((2,), 6e4, dtype=torch.half), "d": torch.tensor(1e300, dtype=torch.float64)}, None),
            ({"m": torch.full((9999,), 3e38)}, None),
        ],
    )
    def test_not_finite(self, tensors, expected):
        assert not_finite(tensors.items()) == expected


class TestBest:
    def test_the_nearest_is_kept(self, start, tmp_path, caplog, monkeypatch):
        scores = iter([0.5, 0.3, 0.4, 0.2, 0.9])
        monkeypatch.setattr("fastgan.training.callbacks.evaluation.Evaluation.distance", lambda *_: next(scores))
        trainer = start(evaluate_every=2, checkpoint_every=0)
        trainer.fit(10)
        best = checkpoint.load(tmp_path / "run" / "checkpoint.best.pt")
        assert best["step"] == 8
        assert best_of(best) == best_of(state(tmp_path / "run")) == {"score": 0.2, "step": 8}
        assert state(tmp_path / "run")["step"] == 10
        assert (
            "sliced_wasserstein is 0.9 at step 10, 0.2 at step 8, whose checkpoint is kept as the best" in caplog.text
        )

    def test_the_distance_is_measured_and_draws_nothing(self, start, tmp_path):
        start("looked", evaluate_every=2, checkpoint_every=2).fit(6)
        start("not", evaluate_every=0, checkpoint_every=2).fit(6)
        looked, never = state(tmp_path / "looked"), state(tmp_path / "not")
        for part in ("system", "ema", "optimizers", "random"):
            assert same(looked[part], never[part])
        assert best_of(looked)["score"] > 0
        assert best_of(never) is None
        with pytest.raises(FileNotFoundError, match="has no best checkpoint yet"):
            Trainer.resume(tmp_path / "not", data=noise()).run.read("best")

    def test_resumed(self, start, tmp_path):
        start("straight", evaluate_every=2).fit(8)
        start(evaluate_every=2).fit(5)
        Trainer.resume(tmp_path / "run", data=noise(), device="cpu").fit(8)
        assert same(state(tmp_path / "run"), state(tmp_path / "straight"))


def test_a_configuration_that_another_wrote_is_not_lost(start, tmp_path):
    """Steps asked for later are written; what else the file says stays."""
    start(log_every=5).fit(2)
    Trainer.resume(tmp_path / "run", data=noise(), device="cpu", retries=1).fit(4)
    written = config.read(tmp_path / "run" / "config.yaml")
    assert (written["steps"], written["log_every"], written["retries"]) == (4, 5, 1)
