"""Ctrl-C and SIGTERM while a trainer waits: answered at once, nothing is lost. A start that fails leaves nothing."""

import contextlib
import os
import signal
import threading
import time

import pytest
import torch

from fastgan import Trainer
from fastgan.data import ImageData
from fastgan.runs.settings import STEPS
from fastgan.systems import create
from fastgan.training.callbacks import evaluation
from tests.training.states import best_of, same, state

QUIET = {
    "sample_every": 0, "evaluate_every": 0, "log_every": 1, "health": False, "precision": "float32", "batch_size": 8,
}  # fmt: skip


class Slow(torch.utils.data.Dataset):
    """24 pictures. Those of one batch take a minute, as long as the file `open` is there."""

    name = "slow"

    def __init__(self, flag, batch):
        self.pictures = torch.randint(0, 256, (24, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator())
        self.flag, self.left = flag, torch.tensor(8 * batch).share_memory_()

    def __len__(self):
        return 24

    def __getitem__(self, index):
        if self.flag.exists():
            self.left -= 1
            if self.left < 0:
                time.sleep(60)
        return self.pictures[index]


@contextlib.contextmanager
def signalled(number, after):
    """The signal comes to this process, and ends the block within two seconds."""
    timer = threading.Timer(after, os.kill, (os.getpid(), number))
    timer.start()
    started = time.monotonic()
    try:
        yield
    finally:
        timer.cancel()
        assert time.monotonic() - started < after + 2


@pytest.fixture
def flag(tmp_path):
    (tmp_path / "flag").touch()
    return tmp_path / "flag"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_while_waiting_for_data(tiny, tmp_path, flag, workers, number, error):
    data = Slow(flag, batch=4)
    trainer = Trainer(tiny(), data, out=tmp_path / "run", device="cpu", workers=workers, **QUIET)
    with signalled(number, 2), pytest.raises(error):
        trainer.fit(7)
    # One batch told the shape; and a worker reads ahead.
    assert trainer.step == state(tmp_path / "run")["step"]
    assert trainer.step in ((1, 2, 3) if workers else (3,))
    flag.unlink()
    Trainer.resume(tmp_path / "run", data=data, device="cpu").fit()
    Trainer(tiny(), data, out=tmp_path / "straight", device="cpu", workers=workers, **QUIET).fit(7)
    assert same(state(tmp_path / "run"), state(tmp_path / "straight"))


def test_the_same_trainer_goes_on(tiny, tmp_path, flag):
    data = Slow(flag, batch=2)
    trainer = Trainer(tiny(), data, out=tmp_path / "run", device="cpu", workers=0, **QUIET)
    with signalled(signal.SIGINT, 2), pytest.raises(KeyboardInterrupt):
        trainer.fit(5)
    flag.unlink()
    trainer.fit()
    Trainer(tiny(), data, out=tmp_path / "straight", device="cpu", workers=0, **QUIET).fit(5)
    assert same(state(tmp_path / "run"), state(tmp_path / "straight"))


@pytest.mark.parametrize("workers", [0, 1])
def test_in_the_first_batch_nothing_is_left(tiny, tmp_path, flag, workers, caplog):
    data = Slow(flag, batch=1)  # which tells the shape
    trainer = Trainer(tiny(), data, out=tmp_path / "run", device="cpu", workers=workers, **QUIET)
    data.left.fill_(0)
    with signalled(signal.SIGTERM, 2), pytest.raises(SystemExit):
        trainer.fit(5)
    assert not (tmp_path / "run").exists()
    assert "stopped before the first step: nothing is kept" in caplog.text
    flag.unlink()
    Trainer(tiny(), data, out=tmp_path / "run", device="cpu", workers=workers, **QUIET).fit(1)


def test_in_what_a_system_learns_before(tiny, tmp_path, pictures):
    system = tiny()
    system.begin = lambda batches: time.sleep(60)
    with signalled(signal.SIGTERM, 1), pytest.raises(SystemExit):
        Trainer(system, pictures, out=tmp_path / "run", device="cpu", **QUIET).fit(5)
    assert not (tmp_path / "run").exists()


def test_in_an_evaluation_which_is_made_up_for(tiny, tmp_path, pictures, monkeypatch):
    settings = {**QUIET, "evaluate_every": 3}
    Trainer(tiny(), pictures, out=tmp_path / "straight", device="cpu", **settings).fit(3)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation.Evaluation, "distance", lambda *_: time.sleep(60))
        trainer = Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **settings)
        with signalled(signal.SIGINT, 3), pytest.raises(KeyboardInterrupt):
            trainer.fit(3)
    assert not trainer.finished
    assert trainer.system.generator.training
    assert best_of(state(tmp_path / "run")) is None
    again = Trainer.resume(tmp_path / "run", data=pictures, device="cpu")
    assert not again.finished
    again.fit()
    assert again.finished
    assert same(state(tmp_path / "run"), state(tmp_path / "straight"))
    assert (tmp_path / "run" / "checkpoint.best.pt").exists()


class TestAStartThatFails:
    def test_labels_are_missing(self, tmp_path, pictures):
        system = create("acgan", resolution=16, channels=1, width=8, classes=3)
        with pytest.raises(ValueError, match="labels"):
            Trainer(system, pictures, out=tmp_path / "run", device="cpu", **QUIET).fit(5)
        assert not (tmp_path / "run").exists()
        labelled = ImageData(pictures.images, torch.arange(50) % 3, ("a", "b", "c"), (), "labelled")
        Trainer(system, labelled, out=tmp_path / "run", device="cpu", **QUIET).fit(1)

    def test_images_of_another_range(self, tiny, tmp_path):
        data = torch.utils.data.TensorDataset(torch.rand(64, 1, 16, 16))
        with pytest.raises(ValueError, match=r"they seem to lie in \[0, 1\]"):
            Trainer(tiny(), data, out=tmp_path / "run", device="cpu", **{**QUIET, "batch_size": 64}).fit(5)
        assert not (tmp_path / "run").exists()

    def test_what_others_wrote_stays(self, tiny, tmp_path, pictures):
        trainer = Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **QUIET)
        (tmp_path / "run" / "samples" / "mine.txt").write_text("mine")
        trainer.train_step.after.append(lambda values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.fit(5)
        assert [file.name for file in (tmp_path / "run").rglob("*") if file.is_file()] == ["mine.txt"]

    def test_a_later_error_keeps_the_run(self, tiny, tmp_path, pictures):
        trainer = Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", **QUIET)
        trainer.train_step.after.append(lambda values: 1 / (trainer.step - 2))
        with pytest.raises(ZeroDivisionError):
            trainer.fit(5)
        assert Trainer.resume(tmp_path / "run", data=pictures).step == 0

    def test_one_of_a_resumed_run_keeps_it(self, tiny, tmp_path, pictures):
        self.test_a_later_error_keeps_the_run(tiny, tmp_path, pictures)
        trainer = Trainer.resume(tmp_path / "run", data=pictures)
        trainer.train_step.after.append(lambda values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.fit()
        assert Trainer.resume(tmp_path / "run", data=pictures).step == 0


def test_steps_are_those_of_the_run(tiny, tmp_path, pictures):
    assert Trainer(tiny(), pictures, out=tmp_path / "default", device="cpu", **QUIET).config.steps == STEPS
    Trainer(tiny(), pictures, out=tmp_path / "run", device="cpu", steps=2, **QUIET).fit()
    again = Trainer.resume(tmp_path / "run", data=pictures, steps=4)
    again.fit()
    assert again.step == 4
