"""What fuse and explain do in one thread, no other thread sees."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import sys
import threading
import weakref

import pytest
import torch
from torch import nn

from fastgan import explain, fuse, systems
from fastgan.fusion.capture.tracing import Untraceable, trace


class Block(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x + self.gain * self.act(self.norm(self.conv(x)))


def network():
    return nn.Sequential(Block(), nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2)), Block())


@contextlib.contextmanager
def looking(look):
    """Calls `look` at every moment at which Python allocates."""

    def callback(phase, info):
        look()

    gc.callbacks.append(callback)
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(callback)


WORK = {
    "fuse": lambda: fuse(network()),
    "explain": lambda: explain(network()),
    "unpickle": lambda: pickle.loads(PICKLED),
    "create": lambda: systems.create("sngan", resolution=32, width=8),
}
PICKLED = pickle.dumps(fuse(network()))


@pytest.mark.parametrize("name", WORK)
def test_another_threads_network_runs_on(name):
    """The network of the first thread is none of ours."""
    plain = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 1)).eval()
    x = torch.randn(4, 3)
    expected = plain(x)
    stop, errors = threading.Event(), []

    def work():
        while not stop.is_set():
            try:
                WORK[name]()
            except Exception as error:
                errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns more often than they would
    threads = [threading.Thread(target=work) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(3000):
            try:
                assert torch.equal(plain(x), expected)
            except Exception as error:
                errors.append(error)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert errors == []


class Spy(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x):
        return self.act(self.norm(x))


def test_a_network_that_is_explained_does_not_change():
    """Not its classes and not its flags, at any moment: another thread may be running it."""
    model = fuse(nn.Sequential(network(), Spy()))
    model[0].eval()
    modules = list(model.modules())
    before = [(type(module), module.training) for module in modules]
    seen = []
    with looking(lambda: seen.append([(type(module), module.training) for module in modules] == before)):
        explain(model)
        fuse(model)  # finds the same
    assert seen
    assert all(seen)
    assert explain(model).fused == 4


class TestNothingIsMutated:
    def test_no_process_wide_state(self, monkeypatch):
        def refuse(*_):
            raise AssertionError("seen by every thread")

        for name in ("disable", "enable", "freeze", "collect"):
            monkeypatch.setattr(gc, name, refuse)
        state, module = dict(vars(torch.fx._symbolic_trace)), dict(vars(nn.Module))
        model = network()
        random = torch.get_rng_state()
        during = []
        monkeypatch.setattr(
            torch.fx._symbolic_trace.Tracer,
            "create_args_for_root",
            lambda *_: during.append("torch.fx's own trace, which patches nn.Module"),
        )
        explain(fuse(model))
        assert during == []
        assert dict(vars(nn.Module)) == module
        assert dict(vars(torch.fx._symbolic_trace)) == state
        assert torch.equal(torch.get_rng_state(), random)

    def test_classes_that_watch_their_subclasses(self):
        """A shadow of theirs would be registered for good."""
        registry = []

        class Registered(nn.Module):
            def __init_subclass__(cls):
                registry.append(cls.__name__)

        class Own(Registered):
            def forward(self, x):
                return x

        class Reads(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm, self.act, self.own = nn.BatchNorm2d(4), nn.ReLU(), Own()
                self.own.depth = 2

            def forward(self, x):
                return self.own(self.act(self.norm(x))) * self.own.scale

        class Calls(Reads):
            def forward(self, x):
                return self.own(self.act(self.norm(x)))

        Own.scale = 3
        assert registry == ["Own"]
        assert explain(Calls())["norm"].pattern == "BatchNorm2d -> ReLU"
        assert "watches its subclasses" in explain(Reads())[""].reason
        assert registry == ["Own"]

    def test_modules_that_finish_themselves(self):
        """A shadow that goes must not run the module's own __del__."""
        gone = []

        class Finishing(Block):
            def __del__(self):
                gone.append(1)

        model = Finishing()
        fuse(model)
        explain(model)
        assert gone == []
        del model
        assert gone == [1]

    def test_shadows_are_freed(self):
        model = network()
        before = weakref.ref(model[0])
        explain(model)
        del model
        gc.collect()
        assert before() is None

    @pytest.mark.parametrize("kind", ["unpacks", "iterates"])
    def test_a_network_goes_when_it_is_dropped(self, kind):
        """Its memory does not wait for the garbage collector."""

        class Halves(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm, self.act, self.conv = nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(2, 4, 1)

            def forward(self, x):
                scale, shift = self.act(self.norm(x)).chunk(2, dim=1)
                return self.conv(scale + shift)

        class Sizes(Block):
            def forward(self, x):
                count = 1
                for size in x.shape[1:]:
                    count *= size
                return super().forward(x) / count

        model = Halves() if kind == "unpacks" else Sizes()
        gc.collect()
        gc.disable()
        try:
            fuse(model)
            assert explain(model).fused == (kind == "unpacks")
            before = weakref.ref(model)
            del model
            assert before() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("kind", ["callback", "finalizer", "weakref"])
def test_the_garbage_collector_may_run_at_any_moment(kind):
    class Cyclic:
        def __init__(self):
            self.me = self

        def __del__(self):
            with contextlib.suppress(Exception), io.StringIO() as out:
                print("a with, a try and a global", file=out)

    class Quiet:
        def __init__(self):
            self.me = self

    def made():
        if kind == "finalizer":
            Cyclic()
        elif kind == "weakref":
            weakref.finalize(Quiet(), lambda: [None])

    with looking(made):
        model = fuse(nn.Sequential(Spy(), Block()))
    assert explain(model).fused == 2


def test_a_call_operator_of_ones_own_runs_once():
    """Its code is the module's, not the parent's: a trace through it would run it twice."""

    class Doubles(nn.Conv2d):
        def __call__(self, x):
            return 2 * super().__call__(x)

    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.act = Doubles(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()

        def forward(self, x):
            return self.act(self.norm(x.abs())) if False else self.conv(x)

    model = Parent()
    x = torch.randn(2, 3, 6, 6)
    expected = copy.deepcopy(model)(x)
    graph = trace(model, Parent.forward).graph
    assert [node.op for node in graph.nodes] == ["placeholder", "call_module", "output"]
    assert torch.equal(fuse(model)(x), expected)


def test_untraceable_leaves_nothing(monkeypatch):
    class Raises(Block):
        def forward(self, x):
            raise KeyError("x")

    with pytest.raises(Untraceable, match="x"):
        trace(Raises(), Raises.forward)
    assert sys.getprofile() is None
    assert gc.isenabled()
