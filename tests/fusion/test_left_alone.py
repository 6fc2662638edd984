"""What fuse leaves alone: it says why, and the network computes what it did."""

from __future__ import annotations

import functools
import random

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from fastgan import explain, fuse

NOISE = True
SCALES = [1.0]


class Traced(nn.Module):
    """A place that would be fused, in a forward that a trace does not represent."""

    def __init__(self):
        super().__init__()
        self.norm, self.act = nn.BatchNorm2d(3), nn.ReLU()
        self.calls = 0
        self.seen = []
        self.scale = torch.tensor(2.0)

    def place(self, x):
        return self.act(self.norm(x))


class NoGrad(Traced):
    def forward(self, x):
        with torch.no_grad():
            return self.place(x)


class NoGradDecorator(Traced):
    @torch.no_grad()
    def forward(self, x):
        return self.place(x)


class NoGradInside(Traced):
    def forward(self, x):
        return self.inner(x)

    @torch.no_grad()
    def inner(self, x):
        return self.place(x)


class Counter(Traced):
    def forward(self, x):
        self.calls += 1
        return self.place(x) * self.calls


class Appends(Traced):
    def forward(self, x):
        self.seen.append(1)
        return self.place(x)


class Draws(Traced):
    def forward(self, x):
        return self.place(x) * random.random()


class Noise(Traced):
    def forward(self, x):
        return self.place(x) + torch.randn(1)


class PlainTensor(Traced):
    def forward(self, x):
        return self.place(x) * self.scale


class Shape(Traced):
    def forward(self, x):
        return self.place(x) if x.shape[0] > 1 else x


class Optional(Traced):
    def forward(self, x, y=None):
        return self.place(x) if y is None else self.place(x) + y


class Gradient(Traced):
    def forward(self, x):
        return self.place(x) if x.grad is None else x


class DefaultTensor(Traced):
    def forward(self, x, scale=torch.tensor(2.0)):  # noqa: B008
        return self.place(x) * scale


class Kind(Traced):
    def forward(self, x):
        return self.place(x) if isinstance(x, torch.Tensor) else x


class Prints(Traced):
    def forward(self, x):
        print("forward")
        return self.place(x)


class Tries(Traced):
    def forward(self, x):
        try:
            return self.place(x) + self.absent
        except AttributeError:
            return self.place(x)


class Trains(Traced):
    def forward(self, x):
        return self.place(x) + 1 if self.training else self.place(x)


class Global(Traced):
    def forward(self, x):
        return self.place(x) * SCALES[0]


class Checkpoints(Traced):
    def forward(self, x):
        return checkpoint(self.place, x, use_reentrant=False)


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class OwnGradient(Traced):
    def forward(self, x):
        return Double.apply(self.place(x))


class Text(Traced):
    def forward(self, x):
        return {f"{x.shape[1]}": self.place(x)}


class Writes(Traced):
    def forward(self, x):
        h = self.place(x).clone()
        h[0] = 0
        return h


class Decorated(Traced):
    def forward(self, x):
        return self.place(x)

    forward = functools.wraps(forward)(lambda self, x, inner=forward: inner(self, x) * 2)


class Subclasses(Traced):
    made: tuple = ()

    def __init_subclass__(cls):
        Subclasses.made += (cls,)

    def forward(self, x):
        return self.place(x)


class Pickles(Traced):
    def forward(self, x):
        return self.place(x)

    def __reduce__(self):
        return Pickles, ()


FORWARDS = {
    NoGrad: "with statement",
    NoGradDecorator: "decorated",
    NoGradInside: "torch.utils._contextlib",
    Counter: "an assignment to .calls",
    Appends: "self.seen, a list",
    Draws: "random.random",
    Noise: "torch.randn",
    PlainTensor: "self.scale, a Tensor",
    Shape: "control flow on a tensor",
    Optional: "an `is` on what may be a tensor",
    Gradient: "an `is` on what may be a tensor",
    DefaultTensor: "a tensor that is neither a parameter nor a buffer",
    Kind: "isinstance",
    Prints: "print",
    Tries: "try statement",
    Trains: "control flow on self.training",
    Global: "SCALES",
    Checkpoints: "checkpoint",
    OwnGradient: "Double.apply",
    Text: "text of a tensor",
    Writes: "does not support item assignment",
    Decorated: "decorated",
    Subclasses: "__init_subclass__",
    Pickles: "pickling",
}


class Iterates(nn.Sequential):
    def __iter__(self):
        return reversed(list(super().__iter__()))


class KeywordOnly(Traced):
    def forward(self, *, x):
        return self.place(x)


class Meta(type):
    pass


class OwnMeta(Traced, metaclass=Meta):
    def forward(self, x):
        return self.place(x)


class OwnClass(Traced):
    factor = 1

    def forward(self, x):
        return self.place(x) * self.__class__.factor


OTHERS = {
    "iterates": (lambda: Iterates(nn.BatchNorm2d(3), nn.ReLU()), "iterates in its own way"),
    "no child": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), None), "one of its children is None"),
    "keyword only": (KeywordOnly, "keyword-only"),
    "metaclass": (OwnMeta, "metaclass, Meta"),
    "class": (OwnClass, "self.__class__"),
}


class TestForwards:
    @pytest.mark.parametrize("name", OTHERS)
    def test_says_why_of_others(self, name):
        make, reason = OTHERS[name]
        network = make()
        kind = type(network)
        assert type(fuse(network)) is kind
        assert reason in explain(network)[""].reason

    @pytest.mark.parametrize("kind", FORWARDS, ids=lambda kind: kind.__name__)
    def test_says_why(self, kind, pair, capsys):
        network = kind()
        before = {k: v for k, v in vars(network).items() if not k.startswith("_")}
        state = torch.get_rng_state(), random.getstate()
        (row,) = explain(network)
        assert FORWARDS[kind] in row.reason
        fused, plain = pair(network)
        assert type(fused) is kind
        assert {k: v for k, v in vars(network).items() if not k.startswith("_")} == before
        assert (torch.get_rng_state() == state[0]).all()
        assert random.getstate() == state[1]
        assert not capsys.readouterr().out
        for training in (True, False):
            results = []
            for model in (fused.train(training), plain.train(training)):
                torch.manual_seed(0)
                random.seed(0)
                x = torch.randn(2, 3, 4, 4, requires_grad=True)
                out = model(x)
                out = out if isinstance(out, torch.Tensor) else next(iter(out.values()))
                grad = torch.autograd.grad(out.sum(), x)[0] if out.requires_grad else None
                results.append((out, grad))
            assert_close(*results, rtol=0, atol=0)

    def test_children_are_visited(self, op):
        class Outer(nn.Module):
            def __init__(self):
                super().__init__()
                self.main = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())

            def forward(self, x):
                return self.main(x) if x.is_contiguous() else x

        network = fuse(Outer())
        assert "control flow" in explain(network)[""].reason
        network(torch.randn(2, 3, 4, 4))
        assert op.take() == op.expected(1)

    def test_no_class_is_made_for_a_watched_base(self):
        made = Subclasses.made
        fuse(Subclasses())
        assert Subclasses.made == made


class TestWholes:
    @pytest.mark.filterwarnings("ignore")
    def test_torchscript(self):
        network = torch.jit.trace(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), torch.randn(2, 3, 4, 4))
        fuse(network)
        (row,) = explain(network)
        assert "TorchScript" in row.reason

    def test_compiled(self):
        network = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())
        compiled = torch.compile(network, backend="eager")
        fuse(compiled)
        assert type(network) is nn.Sequential
        assert "it is already compiled; fuse before torch.compile" in explain(compiled)[""].reason

    def test_compiled_in_place(self):
        network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))
        network.compile(backend="eager")
        assert "it is already compiled; fuse before torch.compile" in explain(fuse(network))[""].reason
        assert type(network[0]) is nn.Sequential

    @pytest.mark.parametrize("how", ["in place", "wrapped"])
    def test_fused_then_compiled_then_fused_again(self, how):
        """What was fused before stays so: it is part of what was compiled."""
        network = fuse(nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())))
        kind = type(network[0])
        if how == "in place":
            network.compile(backend="eager")
        whole = network if how == "in place" else torch.compile(network, backend="eager")
        fuse(whole)
        assert type(network[0]) is kind is not nn.Sequential
        assert explain(whole)[""].reason == "it is already compiled; what was fused in it before stays so"

    @pytest.fixture
    def group(self, tmp_path):
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
        yield
        torch.distributed.destroy_process_group()

    @pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
    @pytest.mark.usefixtures("group")
    @pytest.mark.parametrize("original", [True, False])
    def test_fully_sharded_data_parallel(self, original):
        from torch.distributed.fsdp import FullyShardedDataParallel

        def inner():
            torch.manual_seed(0)
            return nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()), nn.Conv2d(3, 1, 1))

        def sharded(network):
            return FullyShardedDataParallel(network, device_id=torch.device("cpu"), use_orig_params=original)

        network = nn.Sequential(sharded(inner()), nn.BatchNorm2d(1), nn.Tanh())
        expected = network(x := torch.randn(2, 3, 4, 4))
        fuse(network)
        report = explain(network)
        assert [row.path for row in report] == ["0", "1"]
        assert "it is sharded by FSDP; fuse before it is wrapped" in report["0"].reason
        assert not any("_fastgan_fused" in vars(type(m)) for m in network[0].modules())
        before = sharded(fuse(inner()))
        fuse(before)
        assert any("_fastgan_fused" in vars(type(m)) for m in before.modules())
        assert explain(before)[""].reason == "it is sharded by FSDP; what was fused in it before stays so"
        assert_close(nn.Sequential(before, *network[1:])(x), expected)

    @pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
    @pytest.mark.usefixtures("group")
    def test_wrappers_are_looked_into(self, op):
        for wrap in (nn.parallel.DistributedDataParallel, nn.DataParallel):
            model = fuse(wrap(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())))
            assert explain(model)["module.0"].kernel
            model(torch.randn(2, 3, 4, 4))
            assert op.take() == op.expected(1)

    @pytest.mark.parametrize("wrong", [None, 3, nn.BatchNorm2d, torch.relu])
    def test_not_a_module(self, wrong):
        for function in (fuse, explain):
            with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module"):
                function(wrong)

    def test_unknown_backend(self):
        with pytest.raises(ValueError, match="not a backend"):
            fuse(nn.Sequential(), backend="cuda")
