"""Recorded steps on a GPU, beside eager ones."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fastgan.data import Batch
from fastgan.losses import Lazy, r1
from fastgan.systems import Phase, create
from fastgan.systems.base import Stream
from fastgan.training import GraphedStep, Step
from fastgan.training.ema import EMA
from fastgan.training.staging import Staging

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


@pytest.fixture(autouse=True)
def one_way():
    """Convolutions that give the same bits each time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


def images(seed, count=16):
    values = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).cuda()
    return Batch(image=(values * 2 - 1).contiguous(memory_format=torch.channels_last))


def dcgan(**settings):
    torch.manual_seed(0)
    system = create("dcgan", resolution=32, width=16).cuda()
    system.stream = Stream(torch.Generator("cuda").manual_seed(5))
    step = Step(system, **settings)
    ema = EMA(system, 0.99, static=True)
    step.after.append(lambda values: ema.update())
    return SimpleNamespace(system=system, step=step, ema=ema)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_fifty_steps_as_in_eager_mode(precision):
    eager, recorded = dcgan(precision=precision, graph=False), dcgan(precision=precision, graph=True)
    for number in range(50):
        losses = []
        for run in (eager, recorded):
            torch.manual_seed(number)
            run.ema.begin()
            losses.append(run.step(images(number)))
        assert recorded.step.reason == ""
        for name, value in losses[0].items():
            assert torch.equal(losses[1][name], value), (number, name)
    for a, b in zip(eager.system.state_dict().values(), recorded.system.state_dict().values()):
        assert torch.equal(a, b)
    for name, average in eager.ema.averages.items():
        assert torch.equal(recorded.ema.averages[name], average), name


SGD = partial(torch.optim.SGD, lr=0.01)


def loop(d_loss, graph, optimizer=SGD):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1)).cuda()
    phase = Phase("d", (net,), lambda batch: d_loss(net, batch), optimizer(net.parameters()))
    return net, GraphedStep([phase], graph=graph)


def test_a_lazy_penalty_is_recorded_too():
    results = []
    for graph in (False, True):
        lazy = Lazy(partial(r1, gamma=0.1), every=4)
        net, step = loop(lambda net, batch, lazy=lazy: net(batch).mean() + lazy(net, batch), graph)
        values = [step(torch.full((8, 4), float(number), device="cuda"))["d/loss"] for number in range(24)]
        assert step.reason == ("" if graph else "it was asked not to be (graph=False)")
        results.append((values, lazy.calls, [parameter.clone() for parameter in net.parameters()]))
    assert results[0][1] == results[1][1] == 24
    assert torch.equal(torch.stack(results[0][0]), torch.stack(results[1][0]))
    assert all(torch.equal(a, b) for a, b in zip(results[0][2], results[1][2]))


def test_a_loss_that_waits_goes_on_in_eager_mode():
    """Also random numbers, and memory: a failed recording leaves nothing behind."""
    results = []
    for graph in (False, True):

        def waits(net, batch):
            noisy = batch + torch.randn_like(batch)
            return net(noisy).mean() * (2.0 if noisy.mean().item() > 0 else 1.0)

        net, step = loop(waits, graph)
        torch.manual_seed(3)
        values = [step(torch.full((8, 4), 1.0 + number, device="cuda"))["d/loss"] for number in range(12)]
        results.append((torch.stack(values), torch.rand(3, device="cuda"), net[0].weight.detach().clone()))
    assert step.reason.startswith("recording it failed with ")
    assert "test_step_on_cuda.py" in step.reason
    for a, b in zip(*results):
        assert torch.equal(a, b)


def test_a_rate_in_a_tensor_is_read_anew():
    rate = torch.tensor(0.5, device="cuda")
    adam = partial(torch.optim.Adam, lr=rate, fused=True, capturable=True)
    net, step = loop(lambda net, batch: net(batch).mean(), True, adam)
    batch = torch.ones(8, 4, device="cuda")
    for _ in range(6):
        step(batch)
    rate.zero_()
    before = net[0].weight.clone()
    step(batch)
    assert torch.equal(net[0].weight, before)
    assert step._replayed.recorded == 1


def test_memory_does_not_grow():
    _, step = loop(lambda net, batch: net(batch).square().mean(), True)
    batch = torch.ones(8, 4, device="cuda")
    for _ in range(10):
        step(batch)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(10_000):
        step(batch)
    torch.cuda.synchronize()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_a_step_waits_for_nothing():
    run = dcgan(precision="bfloat16")
    batches = [images(number) for number in range(4)]
    for number in range(6):
        run.ema.begin()
        run.step(batches[number % 4])
    assert run.step.reason == ""
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            run.ema.begin()
            run.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_staged_batches_are_those_that_were_made():
    staging = Staging(torch.device("cuda"))
    seen = []
    for number in range(8):
        batch = staging.put(lambda number=number: images(number))
        torch.cuda._sleep(1_000_000)
        seen.append(batch.image.clone())
    assert all(torch.equal(batch, images(number).image) for number, batch in enumerate(seen))
