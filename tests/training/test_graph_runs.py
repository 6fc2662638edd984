"""Runs of the trainer whose steps are recorded, beside runs in eager mode."""

import json

import pytest
import torch

from fastgan.training import Trainer, graph
from tests.training.states import same, state
from tests.training.tape import TapeRecorder

RUN = {
    "sample_every": 4, "checkpoint_every": 3, "log_every": 2, "samples": 4, "batch_size": 8, "evaluate_every": 0,
    "device": "cpu",
}  # fmt: skip


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setitem(graph.RECORDERS, "cpu", TapeRecorder)
    return TapeRecorder


def logged(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "/" in name or name == "step"} for line in lines]


def weights(out):
    saved = state(out)
    return {name: saved[name] for name in ("system", "ema", "optimizers", "random", "logged", "step")}


class TestSameRun:
    def test_as_in_eager_mode(self, tiny, pictures, tmp_path, recorder):
        for name, how in ("eager", False), ("recorded", "auto"):
            trainer = Trainer(tiny(), pictures, out=tmp_path / name, graph=how, **RUN)
            trainer.fit(11)
            assert (trainer.train_step.reason == "") is (name == "recorded")
        assert len(recorder.tapes) == 1
        assert same(weights(tmp_path / "eager"), weights(tmp_path / "recorded"))
        assert logged(tmp_path / "eager") == logged(tmp_path / "recorded")

    def test_resumed(self, tiny, pictures, tmp_path, recorder):
        Trainer(tiny(), pictures, out=tmp_path / "straight", **RUN).fit(11)
        Trainer(tiny(), pictures, out=tmp_path / "run", **RUN).fit(6)
        Trainer.resume(tmp_path / "run", data=pictures, device="cpu").fit(11)
        assert same(weights(tmp_path / "straight"), weights(tmp_path / "run"))

    def test_goes_back_after_a_value_is_not_finite(self, tiny, pictures, tmp_path, recorder, caplog):
        trainer = Trainer(tiny(), pictures, out=tmp_path / "run", retries=1, **RUN)
        trainer.fit(8)
        weight = trainer.system.discriminator[0].conv.weight
        broken = []
        advance = trainer.advance

        def advanced(check=None):
            advance(check)
            if trainer.step == 9 and not broken:
                broken.append(True)
                with torch.no_grad():
                    weight.fill_(float("nan"))

        trainer.advance = advanced
        trainer.fit(14)
        assert trainer.step == 14
        assert "repeating the steps since the checkpoint" in caplog.text
        assert trainer.train_step.reason == ""
        assert all(value.isfinite().all() for value in trainer.system.state_dict().values())

    @pytest.mark.parametrize("first", [True, False])
    def test_goes_on_on_another_device(self, tiny, pictures, tmp_path, monkeypatch, first):
        """Adam counts its steps elsewhere there, and has its rate in a tensor."""
        Trainer(tiny(), pictures, out=tmp_path / "straight", **RUN).fit(12)
        for recorded, until in (first, 6), (not first, 12):
            with monkeypatch.context() as patch:
                if recorded:
                    patch.setitem(graph.RECORDERS, "cpu", TapeRecorder)
                if until == 6:
                    trainer = Trainer(tiny(), pictures, out=tmp_path / "run", **RUN)
                else:
                    trainer = Trainer.resume(tmp_path / "run", data=pictures, device="cpu")
                trainer.fit(until)
            rate = trainer.train_step.phases[0].optimizer.param_groups[0]["lr"]
            assert isinstance(rate, torch.Tensor) is recorded
            assert float(rate) == pytest.approx(2e-4)
        for a, b in zip(logged(tmp_path / "straight"), logged(tmp_path / "run"), strict=True):
            assert a == pytest.approx(b, rel=1e-4)

    def test_asked_not_to(self, tiny, pictures, tmp_path, recorder):
        trainer = Trainer(tiny(), pictures, out=tmp_path / "run", graph=False, **RUN)
        assert trainer.train_step.reason == "it was asked not to be (graph=False)"
        with pytest.raises(ValueError, match="graph must be one of auto, true, false, not 'yes'"):
            Trainer(tiny(), pictures, out=tmp_path / "other", graph="yes", **RUN)
