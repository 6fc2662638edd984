"""Callbacks and loggers of the user's: when they are called, what they may ask for, and that their state comes back."""

import numpy as np
import pytest
import torch

from fastgan.distributed import Ranks
from fastgan.runs import checkpoint
from fastgan.runs.run import Run
from fastgan.systems.dcgan import DCGAN
from fastgan.training import Callback, Logger, Trainer
from fastgan.training.callbacks.base import HOOKS, Hooks
from fastgan.training.state import restore
from tests.training.states import best_of, same, state

QUIET = {
    "sample_every": 0, "checkpoint_every": 3, "evaluate_every": 0, "log_every": 2, "batch_size": 8, "samples": 4,
    "device": "cpu", "precision": "float32",
}  # fmt: skip


class Counter(Callback):
    """Counts what it is called for, and keeps a tensor."""

    def __init__(self):
        self.calls = []
        self.seen = torch.zeros(2)

    def on_start(self, trainer):
        self.calls.append(("start", trainer.step))

    def on_step(self, trainer):
        self.calls.append(("step", trainer.step))
        self.seen += torch.tensor([1.0, trainer.step])

    def on_log(self, trainer, values):
        self.calls.append(("log", trainer.step))
        return {"seen": self.seen[0].item(), "twice": 2 * values["generator/loss"]}

    def on_end(self, trainer, error):
        self.calls.append(("end", trainer.step, error))

    def state_dict(self):
        return {"seen": self.seen, "nested": [{"a": (1, None)}]}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class Kept(Logger):
    def __init__(self):
        self.got, self.closed = [], 0

    def scalars(self, step, values):
        self.got.append((step, dict(values)))

    def close(self):
        self.closed += 1


@pytest.fixture
def start(tiny, pictures, tmp_path):
    def make(out="run", **settings):
        return Trainer(tiny(), pictures, out=tmp_path / out, **{**QUIET, **settings})

    return make


def at(step, act):
    """A callback that does that once, after that step."""

    class At(Callback):
        def on_step(self, trainer):
            if trainer.step == step:
                act(trainer)

    return At()


def test_each_hook_in_its_turn(start, tmp_path):
    counter, logger = Counter(), Kept()
    start(callbacks=[counter], loggers=[logger]).fit(4)
    steps = [("step", 1), ("log", 2), ("step", 2), ("step", 3), ("log", 4), ("step", 4)]
    assert counter.calls == [("start", 0), *steps, ("end", 4, None)]
    assert [step for step, _ in logger.got] == [2, 4]
    values = logger.got[1][1]
    assert values["seen"] == 3
    assert values["twice"] == 2 * values["generator/loss"]
    assert list(values)[-2:] == ["images_per_second", "data_wait"]
    assert logger.closed == 1
    assert '"seen": 3.0' in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_what_it_does_not_have_is_not_called():
    class Nothing(Callback):
        pass

    class Later(Callback):
        pass

    later = Later()
    later.on_step = lambda trainer: None  # of the object, not of its class
    hooks = Hooks([Nothing(), later])
    assert {name: len(getattr(hooks, name[3:])) for name in HOOKS} == {
        "on_step": 1, "on_log": 0, "on_error": 0,
    }  # fmt: skip
    assert hooks.state_dict() == {}


class TestState:
    def test_comes_back_on_resume(self, start, pictures, tmp_path):
        start("straight", callbacks=[Counter()]).fit(7)
        start(callbacks=[Counter()]).fit(4)
        assert torch.equal(state(tmp_path / "run")["callbacks"]["Counter"]["seen"], torch.tensor([4.0, 10.0]))
        counter = Counter()
        Trainer.resume(tmp_path / "run", data=pictures, callbacks=[counter], device="cpu").fit(7)
        assert counter.seen.tolist() == [7.0, 28.0]
        assert same(state(tmp_path / "run"), state(tmp_path / "straight"))

    def test_goes_back_with_the_run(self, start):
        steps = []

        class Breaks(Callback):
            def on_step(self, trainer):
                steps.append(trainer.step)
                if trainer.step == 5 and steps.count(5) == 1:
                    with torch.no_grad():
                        trainer.system.discriminator[-1].weight.fill_(float("nan"))

        counter = Counter()
        start(callbacks=[Breaks(), counter], retries=1).fit(6)
        assert steps == [1, 2, 3, 4, 5, 4, 5, 6]  # seen at the log of step 6
        assert counter.seen.tolist() == [6.0, 21.0]

    def test_of_one_that_is_no_longer_given(self, start, pictures, tmp_path, caplog):
        caplog.set_level("INFO", "fastgan")
        start(callbacks=[Counter()]).fit(2)
        Trainer.resume(tmp_path / "run", data=pictures, device="cpu").fit(3)
        assert "holds a state of the callback Counter, which is not given" in caplog.text

    def test_of_one_that_is_new(self, start, pictures, tmp_path):
        start().fit(2)
        counter = Counter()
        Trainer.resume(tmp_path / "run", data=pictures, callbacks=[counter], device="cpu").fit(3)
        assert counter.seen.tolist() == [1.0, 3.0]

    @pytest.mark.parametrize(
        ("kept", "message"),
        [
            ({"a": [np.zeros(2)]}, r"state of the callback Odd, a, 0 must be a tensor, .*, not numpy\.ndarray"),
            ({"a": np.float64(1)}, r"callback Odd, a must be .*, not numpy\.float64"),
            ({None: 1}, "callback Odd must have text and numbers as keys, not None"),
            (3, "state of the callback Odd must be a dictionary, not 3"),
        ],
    )
    def test_that_no_checkpoint_holds(self, start, tmp_path, kept, message):
        class Odd(Callback):
            def state_dict(self):
                return kept

        with pytest.raises(TypeError, match=message):
            start(callbacks=[Odd()]).fit(2)
        assert not (tmp_path / "run").exists()

    def test_two_of_one_name(self, start):
        with pytest.raises(ValueError, match="two callbacks keep a state under the name 'Counter': give one of them"):
            start(callbacks=[Counter(), Counter()])


class TestAsks:
    def test_to_stop(self, start, tmp_path, caplog):
        trainer = start(callbacks=[at(4, lambda trainer: trainer.stop("it is enough"))])
        trainer.fit(9)
        assert trainer.step == state(tmp_path / "run")["step"] == 4
        assert "stopped early at step 4: it is enough" in caplog.text
        assert "stopped early at step 4: it is enough" in (tmp_path / "run" / "log.txt").read_text()
        trainer.fit(6)  # it may go on
        assert trainer.step == 6

    def test_to_save(self, start, tmp_path):
        def look(trainer):
            steps.append(state(tmp_path / "run")["step"])

        steps = []
        asks = at(2, lambda trainer: trainer.save(best=True))
        start(callbacks=[asks, at(3, look)], checkpoint_every=0).fit(4)
        assert steps == [2]
        assert checkpoint.load(tmp_path / "run" / "checkpoint.best.pt")["step"] == 2

    def test_to_evaluate(self, start, tmp_path):
        start(callbacks=[at(3, lambda trainer: trainer.evaluate())]).fit(4)
        assert best_of(state(tmp_path / "run"))["step"] == 3
        assert (tmp_path / "run" / "metrics.jsonl").read_text().count("sliced_wasserstein") == 1

    def test_and_draws_nothing(self, start, tmp_path):
        """What it looks at in `aside` is as if it had not been."""

        def look(trainer):
            with trainer.aside():
                trainer.system.sample(3)

        start("plain").fit(4)
        start(callbacks=[at(2, look)]).fit(4)
        assert same(state(tmp_path / "plain"), state(tmp_path / "run"))


class TestRaises:
    def test_in_a_step_the_checkpoint_stays(self, start, pictures, tmp_path):
        counter, logger = Counter(), Kept()
        trainer = start(callbacks=[at(5, lambda trainer: 1 / 0), counter], loggers=[logger])
        with pytest.raises(ZeroDivisionError):
            trainer.fit(9)
        assert state(tmp_path / "run")["step"] == 3
        (*_, step, error) = counter.calls[-1]
        assert step == 5
        assert isinstance(error, ZeroDivisionError)
        assert logger.closed == 1
        assert "ended by ZeroDivisionError" in (tmp_path / "run" / "log.txt").read_text()
        start("straight").fit(9)
        Trainer.resume(tmp_path / "run", data=pictures, device="cpu").fit(9)
        got, expected = state(tmp_path / "run"), state(tmp_path / "straight")
        for name in ("system", "ema", "optimizers", "random", "logged"):
            assert same(got[name], expected[name])

    @pytest.mark.parametrize("hook", ["on_start", "on_step", "on_log", "on_end"])
    def test_in_any_hook(self, start, tmp_path, hook):
        class Raises(Callback):
            pass

        def raises(*_):
            raise OSError("mine")

        setattr(Raises, hook, raises)
        counter = Counter()
        trainer = start(callbacks=[counter, Raises()])
        with pytest.raises(OSError, match="mine"):
            trainer.fit(4)
        assert counter.calls[-1][0] == "end"  # the others hear of the end
        assert (tmp_path / "run").exists() is (hook != "on_start")  # before the first step nothing is kept


def test_a_logger_that_fails_is_left_out(start, tmp_path, caplog):
    class Full(Logger):
        def scalars(self, step, values):
            raise OSError("no room")

    kept = Kept()
    start(loggers=[Full(), kept]).fit(6)
    assert caplog.text.count("Full failed and is left out from here on (OSError: no room)") == 1
    assert len(kept.got) == 3
    assert state(tmp_path / "run")["step"] == 6


def test_says_what_is_wrong(start, tmp_path):
    with pytest.raises(TypeError, match=r"callbacks must be fastgan\.training\.Callback objects, not <function"):
        start(callbacks=[lambda trainer: None])
    with pytest.raises(TypeError, match=r"loggers must be fastgan\.training\.Logger objects, not 'wandb'"):
        start(loggers=["wandb"])
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_the_version_before(start, pictures, tmp_path):
    """Format 2 has the state of the trainer's own parts beside the rest."""
    start("straight", evaluate_every=2, checkpoint_every=2).fit(6)
    start(evaluate_every=2, checkpoint_every=2).fit(4)
    path = tmp_path / "run" / "checkpoint.pt"
    now = state(tmp_path / "run")
    parts, probe, ranks = (now.pop(name) for name in ("callbacks", "probe", "ranks"))
    assert ranks == [{}]
    before = {**now, "format": 2, **parts["evaluation"], "watch": parts["health"], "latents": probe["latent"]}
    checkpoint.save(path, before)
    assert Run(tmp_path / "run").read()["callbacks"] == parts
    trainer = Trainer.resume(tmp_path / "run", data=pictures, device="cpu")
    trainer.fit(6)
    assert same(state(tmp_path / "run"), state(tmp_path / "straight"))


class Pooled(DCGAN):
    """Keeps what differs from process to process."""

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("history", torch.zeros(3))

    def rank_state(self):
        return {"history": self.state_dict()["history"]}


def test_what_differs_by_process_goes_back_to_its_process(tiny, pictures, tmp_path):
    system = Pooled(tiny().config)
    trainer = Trainer(system, pictures, out=tmp_path / "run", **QUIET)
    system.history.fill_(1)
    trainer.fit(1)
    saved = state(tmp_path / "run")
    assert same(saved["ranks"], [{"history": torch.ones(3)}])
    saved["ranks"].append({"history": torch.full((3,), 2.0)})
    for rank, expected in enumerate((1, 2, 1)):
        trainer.ranks = Ranks(rank, 3)
        restore(trainer, saved)
        assert system.history.tolist() == [expected] * 3
    saved["ranks"][0]["history"] = torch.ones(4)
    trainer.ranks = Ranks()
    with pytest.raises(ValueError, match=r"a state for another dcgan: history must be of shape \(3,\), not \(4,\)"):
        restore(trainer, saved)
