"""Recorded steps against eager ones, on a recorder that has the rules of a CUDA graph (tape.py)."""

import dataclasses
import gc
import logging
import random
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fastgan.data import Batch
from fastgan.losses import Lazy, r1
from fastgan.systems import Phase, create
from fastgan.training import GraphedStep, Step, graph
from fastgan.training.ema import EMA
from fastgan.training.nonfinite import Check
from tests.training.tape import TapeRecorder


@pytest.fixture(autouse=True)
def recorder(monkeypatch):
    monkeypatch.setitem(graph.RECORDERS, "cpu", TapeRecorder)
    return TapeRecorder


def images(seed, count=6):
    values = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    return Batch(image=values * 2 - 1)


class Loop:
    """The two networks and optimizers of a user, as a GraphedStep."""

    def __init__(self, d_loss=None, *, optimizer=None, phases=None, **settings):
        torch.manual_seed(0)
        self.net_g = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
        self.net_d = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
        self.net_d.register_buffer("history", torch.zeros(()))
        make = optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9))
        self.optimizers = [make(network.parameters()) for network in (self.net_d, self.net_g)]
        self.d_loss = d_loss
        self.step = GraphedStep(
            phases
            or [
                Phase("discriminator", (self.net_d,), self.discriminator, self.optimizers[0]),
                Phase("generator", (self.net_g,), self.generator, self.optimizers[1]),
            ],
            prepare=lambda real: (real, self.net_g(torch.randn(len(real), 3))),
            **settings,
        )

    def discriminator(self, state):
        real, fake = state
        value = (
            nn.functional.softplus(-self.net_d(real)).mean() + nn.functional.softplus(self.net_d(fake.detach())).mean()
        )
        return (value + self.d_loss(self, real) if self.d_loss else value), {"real": self.net_d(real).detach().mean()}

    def generator(self, state):
        return nn.functional.softplus(-self.net_d(state[1])).mean()

    def tensors(self):
        held = [*self.net_g.state_dict().values(), *self.net_d.state_dict().values()]
        for optimizer in self.optimizers:
            held += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
        return held


def real(seed, count=5):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def together(loops, steps, change=lambda loop, number: None, data=real):
    """Runs loops on the same data and random numbers; all numbers must be alike to the bit."""
    for number in range(steps):
        results = []
        for loop in loops:
            change(loop, number)
            torch.manual_seed(number)
            values = loop.step(data(number))
            results.append((values, torch.rand(1)))  # and what is drawn afterwards is alike
        for values, drawn in results[1:]:
            assert list(values) == list(results[0][0])
            assert all(equal(values[name], results[0][0][name]) for name in values), number
            assert torch.equal(drawn, results[0][1]), number
        for other in loops[1:]:
            for a, b in zip(loops[0].tensors(), other.tensors(), strict=True):
                assert equal(a, b), number


def equal(a, b):
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def pair(*args, **settings):
    return Loop(*args, graph=False, **settings), Loop(*args, **settings)


class TestSameNumbersAsTheEagerStep:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_dcgan_with_moving_average(self, precision):
        loops = []
        for how in (False, "auto"):
            torch.manual_seed(0)
            system = create("dcgan", resolution=16, channels=1, width=8, latent=8)
            step = Step(system, precision=precision, graph=how)
            ema = EMA(system, 0.9, static=True)
            step.after.append(lambda values, ema=ema: ema.update())
            loops.append(SimpleNamespace(step=step, ema=ema, system=system))

        for loop in loops:
            loop.tensors = lambda loop=loop: [*loop.system.state_dict().values(), *loop.ema.averages.values()]

        def change(loop, number):
            loop.ema.begin()

        together(loops, 8, change, images)
        assert loops[1].step.reason == ""
        assert loops[1].step._replayed.recorded == 1

    def test_fifty_steps_of_a_users_loop(self, recorder):
        loops = pair()
        together(loops, 50)
        assert len(recorder.tapes) == 1
        assert loops[0].step.reason == "it was asked not to be (graph=False)"

    def test_stages(self, recorder):
        loops = pair()
        for loop in loops:  # the discriminator alone, then both; its optimizer goes on, the other begins there
            first, second = loop.step.phases
            loop.step.phases = [first, dataclasses.replace(second, when=lambda number: number >= 9)]
        together(loops, 9)
        assert not loops[1].optimizers[1].state
        assert len(recorder.tapes) == 1
        loops[1].step.number = loops[0].step.number = 9
        together(loops, 9)
        assert loops[1].optimizers[1].state
        assert len(recorder.tapes) == 2

    def test_a_generator_of_its_own(self):
        loops = []
        for how in (False, "auto"):
            generator = torch.Generator().manual_seed(7)
            loop = Loop(graph=how, generators=[generator])
            loop.step._prepare = lambda real, loop=loop, generator=generator: (
                real,
                loop.net_g(torch.randn(len(real), 3, generator=generator)),
            )
            loops.append(loop)
        together(loops, 8)
        assert loops[1].step.reason == ""

    def test_lazy_penalties(self, recorder):
        def penalised(loop, batch):
            return loop.lazy(loop.net_d, batch) + loop.other(loop.net_d, batch)

        loops = pair(penalised)
        for loop in loops:
            loop.lazy, loop.other = (Lazy(partial(r1, gamma=0.01), every) for every in (3, 4))
        together(loops, 40)
        assert len(recorder.tapes) == 4  # none, either, both
        assert loops[1].lazy.calls == loops[1].other.calls == 40

    def test_a_loss_in_parts(self):
        def in_parts(loop, state):
            batch, fake = state
            yield nn.functional.softplus(-loop.net_d(batch)).mean(), {"n": torch.ones(())}
            yield nn.functional.softplus(loop.net_d(fake.detach())).mean(), {"n": torch.ones(())}

        loops = pair()
        for loop in loops:
            phase = Phase("d", (loop.net_d,), lambda state, loop=loop: in_parts(loop, state), loop.optimizers[0])
            loop.step = GraphedStep(
                [phase, phase], modules=[loop.net_g], prepare=loop.step._prepare, graph=loop is loops[1] and "auto"
            )
        together(loops, 8)
        assert loops[1].step.reason == ""
        assert loops[1].step(real(0))["d/n"] == 2  # a sum over the parts, a mean over the phases of a name

    def test_clipped_gradients(self):
        loops = pair()
        for loop in loops:
            phase = Phase("generator", (loop.net_g,), loop.generator, loop.optimizers[1], clip=1e-3)
            loop.step = GraphedStep(
                [phase], modules=[loop.net_d], prepare=loop.step._prepare, graph=loop is loops[1] and "auto"
            )
        before = [parameter.clone() for parameter in loops[1].net_g.parameters()]
        together(loops, 1)
        moved = torch.stack([(a - b).norm() for a, b in zip(before, loops[1].net_g.parameters())]).norm()
        assert moved <= 0.05 * 1e-3 * 1.001
        together(loops, 8)
        assert loops[1].step.reason == ""

    def test_float16_leaves_out_what_overflows(self, monkeypatch):
        from fastgan.training import step as module

        monkeypatch.setattr(module, "_autocast_dtype", lambda device, precision: torch.bfloat16)

        def infinite(loop, batch):
            return (loop.net_d(batch) * batch.amax()).mean()

        def data(number):
            return real(number) * (float("inf") if number in (2, 6) else 1)

        def adam(parameters):
            return torch.optim.Adam(parameters, lr=1e-3, fused=True, capturable=True)

        loops = pair(infinite, optimizer=adam, precision="float16")
        weights = []

        def change(loop, number):
            weights.append([parameter.clone() for parameter in loop.net_d.parameters()])

        together(loops, 9, change, data)
        assert loops[1].step.reason == ""
        scales = [loop.step.scalers["discriminator"].get_scale() for loop in loops]
        assert scales[0] == scales[1] == 2.0**14
        skipped = [all(torch.equal(a, b) for a, b in zip(weights[2 * n + 1], weights[2 * n + 3])) for n in range(8)]
        assert skipped == [number in (2, 6) for number in range(8)]

    @pytest.mark.parametrize("clip", [0.0, 0.05])
    def test_the_norm_of_scaled_gradients(self, monkeypatch, clip):
        """Is that of the gradients themselves, and 0 where they overflow: what is logged must stay finite."""
        from fastgan.training import step as module

        monkeypatch.setattr(module, "_autocast_dtype", lambda device, precision: None)

        def infinite(loop, batch):
            return (loop.net_d(batch) * batch.amax()).mean()

        for number, factor in ((0, 1.0), (1, float("inf"))):
            norms = []
            for precision in ("float32", "float16"):
                loop = Loop(infinite, graph=False, precision=precision)
                loop.step.norms = True
                loop.step.phases = [dataclasses.replace(phase, clip=clip) for phase in loop.step.phases]
                torch.manual_seed(0)
                norms.append(loop.step(real(number) * factor)["discriminator/gradient"].item())
            if number:
                assert norms[1] == 0
                assert not norms[0] < float("inf")
            else:
                assert norms[1] == pytest.approx(norms[0], rel=1e-5)

    def test_an_autocast_around_the_step(self):
        loops = pair()
        with torch.autocast("cpu", torch.bfloat16):
            together(loops, 6)
        together(loops, 6)
        assert loops[1].step._replayed.recorded == 2


class TestRecordsAnew:
    def count(self, recorder, change, steps=8, **settings):
        loops = pair(**settings)
        together(loops, steps, change)
        assert loops[1].step.reason == ""
        return len(recorder.tapes)

    def test_where_a_rate_that_is_a_number_changes(self, recorder):
        def change(loop, number):
            if number == 5:
                loop.optimizers[0].param_groups[0]["lr"] *= 0.5

        assert self.count(recorder, change) == 2

    def test_not_where_a_rate_that_is_a_tensor_does(self, recorder):
        def adam(parameters):
            return torch.optim.Adam(parameters, lr=torch.tensor(1e-3), fused=True, capturable=True)

        def change(loop, number):
            loop.optimizers[0].param_groups[0]["lr"].mul_(0.5)

        assert self.count(recorder, change, optimizer=adam) == 1

    def test_not_where_a_phase_has_its_rate_by_step(self, recorder):
        loops = pair()
        for loop in loops:
            optimizer = torch.optim.Adam(loop.net_d.parameters(), lr=torch.tensor(0.1), fused=True, capturable=True)
            loop.optimizers[0] = optimizer
            phase = Phase("d", (loop.net_d,), loop.discriminator, optimizer, rate=lambda number: 0.5**number)
            loop.step = GraphedStep(
                [phase], modules=[loop.net_g], prepare=loop.step._prepare, graph=loop is loops[1] and "auto"
            )
        together(loops, 8)
        assert len(recorder.tapes) == 1
        assert loops[1].optimizers[0].param_groups[0]["lr"].item() == pytest.approx(0.1 * 0.5**7)

    def test_where_a_parameter_is_frozen(self, recorder):
        def change(loop, number):
            loop.net_d[0].weight.requires_grad_(number < 5)

        assert self.count(recorder, change) == 2

    def test_where_a_mode_changes(self, recorder):
        def change(loop, number):
            loop.net_g.train(number < 5)

        assert self.count(recorder, change) == 2

    def test_where_memory_changes(self, recorder):
        def change(loop, number):
            if number == 5:
                for buffers in (loop.net_g[1]._buffers, loop.net_d[0]._parameters):
                    for name, tensor in buffers.items():
                        buffers[name] = tensor.clone() if buffers is loop.net_g[1]._buffers else tensor
                loop.net_d[0].weight.data = loop.net_d[0].weight.data.clone()

        assert self.count(recorder, change) == 2

    def test_not_where_weights_are_loaded(self, recorder):
        def change(loop, number):
            if number == 5:
                loop.net_d.load_state_dict({name: value * 0.5 for name, value in loop.net_d.state_dict().items()})

        assert self.count(recorder, change) == 1

    def test_where_the_state_of_an_optimizer_is_loaded(self, recorder):
        def change(loop, number):
            if number == 5:
                state = loop.optimizers[0].state_dict()
                loop.optimizers[0].load_state_dict({**state, "state": {
                    name: {key: value * 0.5 for key, value in held.items()} for name, held in state["state"].items()
                }})  # fmt: skip

        assert self.count(recorder, change) == 2

    def test_for_each_shape(self, recorder):
        loops = pair()
        together(loops, 12, data=lambda number: real(number, 5 + number % 2))
        assert len(recorder.tapes) == 2

    def test_at_most_so_often(self, recorder, caplog):
        def change(loop, number):
            loop.optimizers[0].param_groups[0]["lr"] = 0.01 / (1 + number)

        loops = pair()

        def twice(loop, number):
            change(loop, number // 3)

        together(loops, 4 * graph.MOST, twice)
        assert len(recorder.tapes) <= graph.MOST
        assert (
            "a learning rate or another number of an optimizer changed, after 16 changes of such things"
            in loops[1].step.reason
        )

    def test_many_shapes_seen_once_are_forgotten(self):
        loop = Loop()
        for number in range(2 * graph.KINDS):
            loop.step(real(0, 4 + number))
        assert len(loop.step._replayed._kinds) <= graph.KINDS


class TestCannotBeRecorded:
    """The reason is said once, and the step goes on in eager mode as if nothing had been tried."""

    def refused(
        self, caplog, message, *args, steps=7, change=lambda loop, number: None, host=lambda loop: [], **settings
    ):
        loops = pair(*args, **settings)
        loops[1].step._replayed._recorder.__class__.host = host(loops[1])
        with caplog.at_level(logging.WARNING, "fastgan"):
            together(loops, steps, change)
        said = [record.message for record in caplog.records]
        assert len(said) == 1, said
        assert said[0].startswith("the step runs in eager mode, not as a CUDA graph: ")
        assert message in said[0]
        assert said[0].endswith(loops[1].step.reason)

    def test_a_loss_that_waits_for_the_device(self, caplog):
        def waits(loop, batch):
            return loop.net_d(batch).mean() * (2.0 if batch.mean().item() > 0 else 1.0)

        self.refused(caplog, "recording it failed with RuntimeError: operation not permitted", waits)

    def test_a_shape_that_depends_on_values(self, caplog):
        self.refused(caplog, "waits for the device", lambda loop, batch: loop.net_d(batch[batch[:, 0] > -9]).mean())

    def test_a_counter_of_python_in_a_module(self, caplog):
        def counts(loop, batch):
            loop.net_d.calls = getattr(loop.net_d, "calls", 0) + 1
            return loop.net_d(batch).mean() * loop.net_d.calls

        self.refused(caplog, "Sequential.calls is a number that Python changes in the step", counts)

    def test_random_numbers_of_python(self, caplog):
        self.refused(
            caplog,
            "or another thread meanwhile, draws random numbers of Python or NumPy",
            lambda loop, batch: loop.net_d(batch).mean() + 0 * random.random(),
        )

    def test_a_generator_that_was_not_named(self, caplog):
        generators = {}

        def draws(loop, batch):
            own = generators.setdefault(loop, torch.Generator().manual_seed(3))
            return loop.net_d(batch + torch.randn(batch.shape, generator=own)).mean()

        self.refused(caplog, "a generator draws that is not registered", draws)

    def test_a_buffer_that_is_replaced(self, caplog):
        def history(loop, batch):
            loop.net_d.history = 0.5 * loop.net_d.history + loop.net_d(batch).detach().mean()
            return loop.net_d(batch).mean() * loop.net_d.history

        self.refused(
            caplog, "the memory of a parameter or buffer changed, after 16 changes of such things", history, steps=20
        )

    def test_a_buffer_changed_in_place_is_recorded(self, recorder):
        def history(loop, batch):
            loop.net_d.history.lerp_(loop.net_d(batch).detach().mean(), 0.5)
            return loop.net_d(batch).mean() * loop.net_d.history.clone()

        loops = pair(history)
        together(loops, 7)
        assert len(recorder.tapes) == 1

    def test_a_tensor_on_the_host_is_put_back(self, caplog):
        self.refused(
            caplog, "the step changes a tensor that is not on", host=lambda loop: [loop.net_g[1].num_batches_tracked]
        )

    def test_an_input_of_an_unknown_kind(self, caplog):
        loop = Loop()
        loop.step._prepare = lambda real, more: (real, loop.net_g(torch.randn(len(real), 3)))
        loop.step(real(0), {1, 2})
        assert "an input is a set" in loop.step.reason

    def test_an_input_on_the_host(self, recorder):
        loop = Loop()
        given = real(0)
        recorder.host = [given]
        loop.step(given)
        assert loop.step.reason == "an input is on cpu: move it to the device before the step"

    def test_an_error_of_the_loss_is_raised_as_in_eager_mode(self):
        def breaks(loop, batch):
            if loop.broken:
                raise ValueError("broken")
            return 0.0 * loop.net_d(batch).mean()

        loop = Loop(breaks)
        loop.broken = False
        for number in range(3):
            loop.step(real(number))
        loop.broken = True
        with pytest.raises(ValueError, match="broken"):
            loop.step(real(3))
        assert all(parameter.requires_grad for parameter in loop.net_g.parameters())

    def test_an_optimizer_that_counts_on_the_host(self):
        loop = Loop(optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3))
        assert loop.step.reason == (
            "the optimizer of phase 'discriminator' counts its steps on the CPU: make it with "
            "torch.optim.Adam(..., capturable=True)"
        )

    def test_no_graphs_on_this_device(self, monkeypatch, caplog):
        monkeypatch.delitem(graph.RECORDERS, "cpu")
        assert Loop().step.reason == "the networks are on cpu; CUDA alone has graphs"
        assert not caplog.records
        Loop(graph=True)
        assert "the step runs in eager mode, not as a CUDA graph: the networks are on cpu" in caplog.text


class TestReplays:
    def test_do_not_keep_memory(self):
        loop = Loop()
        for number in range(5):
            loop.step(real(number))
        counts = []
        for _ in range(3):
            for number in range(200):
                loop.step(real(number))
            gc.collect()
            counts.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
        # What earlier tests left may go meanwhile; one tensor kept by each step would be 400 more.
        assert counts[2] <= counts[1] + 50 <= counts[0] + 100

    def test_give_values_that_the_next_one_leaves(self):
        loop = Loop()
        first = [loop.step(real(number))["generator/loss"] for number in range(8)]
        copies = [value.clone() for value in first]
        loop.step(real(9))
        assert all(torch.equal(a, b) for a, b in zip(first, copies))
        assert len({value.item() for value in first}) == 8

    def test_leave_inputs_as_they_were(self):
        loop = Loop()
        for number in range(6):
            given = real(number)
            loop.step(given)
            assert torch.equal(given, real(number))

    def test_a_check_runs_in_eager_mode(self):
        loops = pair()
        together(loops, 5)
        for loop in loops:
            check = Check(nn.ModuleList([loop.net_d, loop.net_g]))
            torch.manual_seed(5)
            loop.step(real(5) * float("nan"), check=check)
            assert str(check.found) == "loss became nan in phase discriminator of step 0"


class TestSaysWhatIsWrong:
    def test_phases_of_one_name(self):
        loop = Loop()
        phases = [Phase("a", (loop.net_d,), loop.discriminator, optimizer) for optimizer in loop.optimizers]
        with pytest.raises(ValueError, match="phases of one name share an optimizer; 'a' has two"):
            GraphedStep(phases)

    def test_no_phase(self):
        with pytest.raises(ValueError, match="a step needs at least one phase"):
            GraphedStep([])

    def test_graph(self):
        with pytest.raises(ValueError, match="graph must be auto, True or False, not 'yes'"):
            Loop(graph="yes")

    def test_float16(self):
        with pytest.raises(ValueError, match="precision float16 needs a CUDA device, not cpu"):
            Loop(precision="float16")
