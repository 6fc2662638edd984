"""A step in less memory is the same step."""

import pytest
import torch

from fastgan import backend
from fastgan.data import Batch
from fastgan.systems import create
from fastgan.training import Step


@pytest.fixture(autouse=True)
def _afterwards():
    yield
    Step(create("dcgan", resolution=16, width=4), memory="fast")  # what the process keeps


def losses(memory: str, precision: str) -> list[float]:
    torch.manual_seed(0)
    step = Step(create("dcgan", resolution=32, width=16), precision=precision, memory=memory)
    batch = Batch(image=torch.rand(8, 3, 32, 32) * 2 - 1)
    return [float(value) for _ in range(3) for _, value in sorted(step(batch).items())]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
def test_small_gives_the_same_losses(precision, tolerance):
    assert losses("small", precision) == pytest.approx(losses("fast", precision), rel=tolerance)


def test_small_computes_again(monkeypatch):
    if backend.choose("norm_act", "cpu", "auto") != "native":
        pytest.skip("what PyTorch computes is not computed again")
    calls = []
    function = torch.ops.fastgan.norm_act_apply.default
    monkeypatch.setattr(torch.ops.fastgan.norm_act_apply, "default", lambda *args: calls.append(1) or function(*args))
    losses("fast", "float32")
    assert not calls
    losses("small", "float32")
    # At 32x32 the generator has 3 norms and the discriminator 2, which real and fake images pass in its own phase.
    assert 3 * (3 + 2 * 2) <= len(calls) <= 3 * (3 + 3 * 2)


def test_unknown():
    with pytest.raises(ValueError, match="memory must be fast or small, not 'tiny'"):
        Step(create("dcgan"), memory="tiny")
