"""What a forward does in Python is in its trace, or is a condition of it, or keeps it from being rewritten."""

from __future__ import annotations

import copy
import cProfile
import dis
import math
import sys
from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fastgan import explain, fuse
from fastgan.fusion.capture import bytecode, tracing

EXACT = {"rtol": 1e-9, "atol": 1e-11}
WIDTH, MODE = 3, "relu"
Pair = namedtuple("Pair", "image features")


class Place(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(3), nn.LeakyReLU(0.2)
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.offset = None
        self.register_buffer("shift", torch.tensor(0.4))
        self.depth, self.mode, self.sizes = 2, "relu", (1, 2)
        self.function = torch.tanh

    def place(self, x):
        return self.act(self.norm(x))


class Dropout(Place):
    def forward(self, x):
        return F.dropout(self.place(x), 0.5, training=self.training)


class Noise(Place):
    def forward(self, x):
        return self.place(x) + torch.randn_like(x)


class InPlace(Place):
    def forward(self, x):
        h = self.place(x)
        kept = h
        h *= 2
        h += x
        n = x.size(0)
        m = n
        n += 1
        return kept * m + n


class Buffers(Place):
    def forward(self, x):
        return self.place(x) * self.shift + self.gain * self.norm.running_mean.mean()


class Attributes(Place):
    def forward(self, x):
        for _ in range(self.depth):
            x = self.place(x)
        if self.mode == "relu":
            x = self.function(x)
        if self.offset is not None:
            x = x + self.offset
        return x.reshape(x.shape[0], -1, *self.sizes)


class Globals(Place):
    def forward(self, x):
        x = torch.relu(x) if MODE == "relu" else x
        return self.place(x.view(-1, WIDTH, *(4, 4))) * math.pi


class Nested(Place):
    def forward(self, x):
        def twice(h):
            return self.place(h) * factor

        factor = 2
        return sum([twice(h) for h in (x, x + 1)])


@torch.fx.wrap
def larger(x, y):
    return x if x.sum() > y.sum() else y


class Wrapped(Place):
    def forward(self, x):
        return larger(x, self.place(x))


class Outputs(Place):
    def forward(self, x, y):
        h = self.place(x)
        return Pair(h, [y, (h, None, {"mean": h.mean()})])


class Arguments(Place):
    def forward(self, x, /, *rest, scale=1.0, **more):
        return self.place(x) * scale + sum(rest) + sum(more.values())


class Unpacks(Place):
    def forward(self, x):
        b, c, h, w = x.shape
        return self.place(x).view(b, c * h, w)


class Children(Place):
    def __init__(self):
        super().__init__()
        self.table = nn.ModuleDict({"a": nn.BatchNorm2d(3), "b": nn.BatchNorm2d(3)})
        self.body = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())

    def forward(self, x):
        for name in self.table:
            x = F.relu(self.table[name](x))
        for layer in self.body:
            x = layer(x)
        for norm in self.table.children():
            x = F.elu(norm(x), 0.5)
        return x


class OwnSequential(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * 2


def own_sequential():
    return OwnSequential(nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3), nn.Tanh())


NETWORKS = {
    "dropout": (Dropout, 1),
    "in place": (InPlace, 1),
    "buffers": (Buffers, 1),
    "attributes": (Attributes, 2),
    "globals": (Globals, 1),
    "nested": (Nested, 2),
    "wrapped": (Wrapped, 1),
    "outputs": (Outputs, 1),
    "arguments": (Arguments, 1),
    "unpacks": (Unpacks, 1),
    "children": (Children, 5),
    "own sequential": (own_sequential, 2),
}


def run(model, *more, **named):
    torch.manual_seed(1)
    x = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    inputs = (x, torch.ones(1)) if isinstance(model, Outputs) else (x,)
    return model(*inputs, *more, **named)


class TestFollows:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_same_result(self, name, pair, op):
        make, places = NETWORKS[name]
        fused, plain = pair(make().double())
        for training in (True, True, False):
            output, expected = run(fused.train(training)), run(plain.train(training))
            assert op.take() == op.expected(places)
            assert type(output) is type(expected)
            assert_close(output, expected, **EXACT)
        assert_close(fused.state_dict(), plain.state_dict(), **EXACT)

    @pytest.mark.parametrize("kind", [Dropout, Noise])
    def test_random_numbers_are_drawn_at_each_call(self, kind, op):
        network = fuse(kind())
        x = torch.randn(4, 3, 4, 4)
        assert not torch.equal(network(x), network(x))
        assert op.take() == op.expected(2)
        if kind is Noise:
            return
        network.eval()
        assert torch.equal(network(x), network(x))

    def test_other_arguments(self, pair, op):
        fused, plain = pair(Arguments().double())
        for more, named in [((1.0, 2.0), {}), ((), {"scale": 3.0}), ((), {"extra": 2.0}), ((1.0,), {"scale": 0.0})]:
            assert_close(run(fused, *more, **named), run(plain, *more, **named), **EXACT)
        assert op.take() == 0  # the forward of the class has run

    @pytest.mark.parametrize(
        "change",
        [
            {"depth": 1},
            {"depth": 2.0},
            {"mode": "none"},
            {"sizes": (2, 1)},
            {"function": torch.sigmoid},
            {"offset": nn.Parameter(torch.tensor(3.0))},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_attributes_are_conditions(self, change, pair):
        fused, plain = pair(Attributes().double())
        run(fused), run(plain)
        for model in (fused, plain):
            for name, value in change.items():
                setattr(model, name, value)
        if change == {"depth": 2.0}:
            for model in (fused, plain):
                with pytest.raises(TypeError, match="integer"):
                    run(model)
        else:
            assert_close(run(fused), run(plain), **EXACT)

    @pytest.mark.parametrize(("name", "value"), [("MODE", "none"), ("WIDTH", 6)])
    def test_globals_are_conditions(self, name, value, pair, monkeypatch):
        fused, plain = pair(Globals().double())
        monkeypatch.setattr(sys.modules[__name__], name, value)
        if name == "WIDTH":
            for model in (fused, plain):
                model.norm = nn.BatchNorm2d(6).double()
        assert_close(run(fused), run(plain), **EXACT)

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.table.update({"c": nn.BatchNorm2d(3, eps=1.0).double()}),
            lambda m: m.table.pop("b"),
            lambda m: m.body.append(nn.Softplus()),
            lambda m: m.body.__setitem__(0, nn.InstanceNorm2d(3)),
        ],
    )
    def test_children_are_conditions(self, change, pair):
        fused, plain = pair(Children().double())
        for model in (fused, plain):
            change(model)
        assert_close(run(fused), run(plain), **EXACT)

    def test_original_forward_patched_later(self, pair, monkeypatch):
        fused, plain = pair(Buffers().double())
        monkeypatch.setattr(Buffers, "forward", lambda self, x: self.place(x) * 100)
        assert_close(run(fused), run(plain), **EXACT)


class TestTwoTraces:
    """A forward is traced in train and in eval mode: a second defence, for what reading it does not show."""

    def test_agree(self):
        first, second = (tracing.trace(network, Attributes.forward) for network in (Attributes(), Attributes()))
        assert first.same(second)
        changed = Attributes()
        changed.depth = 1
        assert not first.same(tracing.trace(changed, Attributes.forward))

    def test_left_alone_where_they_differ(self, monkeypatch):
        monkeypatch.setattr(tracing.Traced, "same", lambda self, other: False)
        network = fuse(Attributes())
        assert type(network) is Attributes
        assert "differs between train() and eval()" in explain(network)[""].reason


class TestBytecode:
    def test_an_instruction_that_is_not_known_is_refused(self, monkeypatch):
        """As a later Python may have it: what it does is anybody's guess."""
        names = {instruction.opname for instruction in dis.get_instructions(Place.place)}
        (call,) = (name for name in names if name in ("CALL", "CALL_METHOD"))
        monkeypatch.setattr(bytecode, "_KNOWN", bytecode._KNOWN - {call})
        bytecode.facts.cache_clear()
        try:
            network = fuse(Buffers())
            assert type(network) is Buffers
            assert f"an instruction that is not known here, {call}" in explain(network)[""].reason
        finally:
            bytecode.facts.cache_clear()

    def test_all_instructions_of_this_python_have_been_judged(self):
        """But for those of what is refused anyway: exceptions, patterns, `async`, imports, class bodies."""
        refused = "MATCH", "EXC", "EG_", "ANEXT", "AITER", "ASYNC", "WITH", "IMPORT", "NAME", "RERAISE", "COPY_DICT"
        never_seen = {
            *("INTERPRETER_EXIT", "EXIT_INIT_CHECK", "ENTER_EXECUTOR", "RESERVED", "JUMP", "JUMP_NO_INTERRUPT"),
            *("CACHE", "EXTENDED_ARG", "NOT_TAKEN", "PRINT_EXPR", "SETUP_ANNOTATIONS"),
        }
        judged = {*bytecode._KNOWN, *bytecode._REFUSED, *bytecode._ASSIGNS, *never_seen}
        left = [name for name in dis.opmap if name not in judged and not name.startswith("INSTRUMENTED")]
        assert [name for name in left if not any(part in name for part in refused)] == []


class TestLeavesNoTrace:
    def test_profiler_and_flags(self):
        network = nn.Sequential(Children(), InPlace())
        network[0].eval()
        profiler = cProfile.Profile()
        profiler.enable()
        try:
            before = sys.getprofile()  # the profiler; nothing from Python 3.12 on
            fuse(network)
            assert sys.getprofile() is before
        finally:
            profiler.disable()
        assert sys.getprofile() is None
        assert "__getattribute__" not in vars(nn.Module)
        assert [network[0].training, network[1].training] == [False, True]
        assert explain(network).to_dict()["rows"]

    def test_failed_trace(self):
        class Fails(Place):
            def forward(self, x):
                raise ValueError(f"bad\n{self.depth}")

        network = Fails()
        state = copy.deepcopy(vars(network))
        assert explain(network)[""].reason == "torch.fx cannot trace its forward: bad"
        assert sys.getprofile() is None
        assert "__getattribute__" not in vars(nn.Module)
        assert vars(network).keys() == state.keys()
