"""Translators in a training: resumed bit for bit, the same fused and not, and their previews."""

import pytest
import torch

from fastgan import backend
from fastgan.fusion import unfuse
from fastgan.runs import load
from fastgan.systems import Translator, names
from fastgan.systems.registry import find
from fastgan.training import Step, Trainer, graph
from tests.systems.every import noise, rows, small
from tests.training.states import same, state
from tests.training.tape import TapeRecorder

TRANSLATORS = [name for name in names() if issubclass(find(name), Translator)]
SETTINGS = {"batch_size": 2, "samples": 2, "sample_every": 2, "checkpoint_every": 2, "device": "cpu", "flip": True,
            "evaluate_every": 0, "log_every": 1}  # fmt: skip


def made(name, **options):
    torch.manual_seed(0)
    return small(name, **options)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_run_goes_on_bit_for_bit(name, tmp_path):
    """With the pictures in its pools, which hold fewer than the run shows them."""
    data = noise(made(name), 7)
    options = {"pool": 3, "augment": "translation"}
    Trainer(made(name, **options), data, out=tmp_path / "straight", **SETTINGS).fit(6)
    Trainer(made(name, **options), data, out=tmp_path / "stopped", **SETTINGS).fit(3)
    Trainer.resume(tmp_path / "stopped", data=data).fit(6)
    straight, stopped = (state(tmp_path / out) for out in ("straight", "stopped"))
    assert same(straight["system"], stopped["system"])
    assert same(straight["optimizers"], stopped["optimizers"])
    system = load(tmp_path / "stopped", device="cpu")
    for example in system.examples(rows(system, 2), torch.Generator().manual_seed(0)):
        result = system.translate(example.images, example.direction, **example.inputs)
        assert result.isfinite().all()
        assert result.shape[2:] == tuple(side * system.scale for side in example.images.shape[2:])
    assert list((tmp_path / "stopped" / "samples").glob("*.png"))


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_step_can_be_recorded(name, monkeypatch):
    """As a graph: the same numbers, pools and augmentation among them, and nothing that waits for the host."""
    monkeypatch.setitem(graph.RECORDERS, "cpu", TapeRecorder)
    loops = []
    for how in (False, "auto"):
        system = made(name, pool=3, augment="translation")
        loops.append((system, Step(system, precision="float32", graph=how)))
    for number in range(8):
        batch = rows(loops[0][0], 2 * loops[0][0].batches, number)
        for _, step in loops:
            torch.manual_seed(number)
            step(batch)
    (eager, _), (recorded, step) = loops
    assert step.reason == ""
    assert step._replayed.recorded == 1
    assert same(dict(eager.state_dict()), dict(recorded.state_dict()))


@pytest.mark.parametrize("name", TRANSLATORS)
def test_fused_is_unfused(name):
    """Three steps in float64 from the same weights and random numbers."""
    systems = [made(name).double(), unfuse(made(name)).double()]
    steps = [Step(system, precision="float32", channels_last=False) for system in systems]
    for number in range(3):
        batch = rows(systems[0], 4 * systems[0].batches, number).map(torch.Tensor.double)
        for step, how in zip(steps, ("auto", "torch")):
            torch.manual_seed(number)
            with backend.using(how):
                step(batch)
    first, second = (system.state_dict() for system in systems)
    for key, value in first.items():
        assert (value.double() - second[key].double()).abs().max() <= 1e-8, key
