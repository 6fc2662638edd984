"""After fuse the model is still the model: the same objects and classes, and what is changed later takes effect."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from fastgan import explain, fuse, unfuse
from tests.fusion.fusion_networks import NETWORKS, Functional, Inherited, Residual, Shared, build

EXACT = {"rtol": 1e-9, "atol": 1e-11}


def classes(network):
    return [type(m) for m in network.modules()]


class TestIdentity:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_same_objects_and_names(self, name):
        network, _ = build(name)
        modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
        buffers, keys, text = dict(network.named_buffers()), list(network.state_dict()), repr(network)
        attributes = {path: list(vars(m)) for path, m in modules.items()}
        flags = [m.training for m in network.modules()]
        fuse(network)
        assert dict(network.named_modules()) == modules
        assert all(p is parameters[k] for k, p in network.named_parameters())
        assert all(b is buffers[k] for k, b in network.named_buffers())
        assert list(network.state_dict()) == keys
        assert repr(network) == text
        assert {path: list(vars(m)) for path, m in network.named_modules()} == attributes
        assert [m.training for m in network.modules()] == flags

    @pytest.mark.parametrize("name", NETWORKS)
    def test_unfuse_gives_the_classes_back(self, name):
        network, _ = build(name)
        kinds = classes(network)
        fuse(network)
        assert classes(network) != kinds
        assert unfuse(network) is network
        assert classes(network) == kinds

    def test_the_class_looks_the_same(self):
        network = fuse(Inherited())
        kind = type(network)
        assert isinstance(network, Inherited)
        assert (kind.__name__, kind.__qualname__, kind.__module__, kind.__doc__) == (
            Inherited.__name__,
            Inherited.__qualname__,
            Inherited.__module__,
            Inherited.__doc__,
        )

    def test_twice_is_once(self, op):
        network, x = build("nested")
        fuse(fuse(network))
        assert all(
            kind.__bases__[0] in (nn.Sequential, Residual, Shared)
            for kind in classes(network)
            if "_fastgan_fused" in vars(kind)
        )
        fuse(build("nested")[0])(x)
        once = op.take()
        network(x)
        assert op.take() == once >= op.expected(4)
        unfuse(network)
        assert type(network) is nn.Sequential

    def test_methods_and_references(self, op):
        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.features = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())

            def forward(self, x):
                return self.features(x)

            def twice(self, x):
                return self.features(self.features(x))

        network = Network()
        held = network.features
        fuse(network)
        assert held is network.features
        network.twice(torch.randn(2, 3, 4, 4))
        held(torch.randn(2, 3, 4, 4))
        assert op.take() == op.expected(3)

    def test_equal_modules_stay_of_one_class(self):
        """As torch.func.stack_module_state asks; only what is fused alike."""
        first, second = (fuse(build("nested")[0]) for _ in range(2))
        assert classes(first) == classes(second)
        assert type(first[0]) is type(first[1][1])
        assert type(first[0]) is not type(fuse(Residual(), backend="torch"))
        functional = [fuse(Functional()) for _ in range(2)]
        assert type(functional[0]) is type(functional[1])
        for slope in (0.2, 0, False):
            functional[1].slope = slope
            assert type(fuse(functional[1])) is not type(functional[0])
            functional[0].slope = slope
            assert type(fuse(functional[0])) is type(functional[1])

    def test_released_when_dropped(self):
        class Network(Residual):
            pass

        network = fuse(Network())
        kind = weakref.ref(type(network))
        assert kind() is not Network
        del network
        gc.collect()
        assert kind() is None


CHANGES = {
    "eps": lambda m: setattr(m.bn1, "eps", 0.5),
    "momentum": lambda m: setattr(m.bn1, "momentum", 0.9),
    "no momentum": lambda m: setattr(m.bn1, "momentum", None),
    "norm to eval": lambda m: m.bn1.eval(),
    "all to eval": lambda m: m.eval(),
    "weight": lambda m: m.bn1.weight.data.fill_(3.0),
    "new weight": lambda m: setattr(m.bn1, "weight", nn.Parameter(torch.full_like(m.bn1.weight, 2.0))),
    "no weight": lambda m: setattr(m.bn1, "weight", None),
    "no running statistics": lambda m: setattr(m.bn1, "track_running_stats", False),
    "reset": lambda m: m.bn1.reset_running_stats(),
    "frozen": lambda m: m.bn1.requires_grad_(False),
    "norm replaced": lambda m: setattr(m, "bn1", nn.InstanceNorm2d(3).double()),
    "norm replaced by another": lambda m: setattr(m, "bn1", nn.GroupNorm(1, 3).double()),
    "norm removed": lambda m: setattr(m, "bn1", nn.Identity()),
    "activation replaced": lambda m: setattr(m, "relu", nn.ELU(0.3)),
    "activation replaced by another": lambda m: setattr(m, "relu", nn.GELU()),
    "convolution replaced": lambda m: setattr(m, "conv1", nn.Conv2d(3, 3, 1).double()),
    "child added": lambda m: setattr(m, "downsample", nn.Conv2d(3, 3, 1).double()),
    "hook on the norm": lambda m: m.bn1.register_forward_hook(lambda m, a, out: out * 2 + 1),
    "pre-hook on the activation": lambda m: m.relu.register_forward_pre_hook(lambda m, a: (a[0] + 1,)),
    "backward hook on the norm": lambda m: (
        setattr(m.relu, "inplace", False),  # PyTorch forbids it after such a hook
        m.bn1.register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,)),
    ),
    "forward put on the norm": lambda m: setattr(m.bn1, "forward", lambda x: x * 2),
    "weight norm on the convolution": lambda m: nn.utils.parametrizations.weight_norm(m.conv1),
    "parametrized norm": lambda m: nn.utils.parametrize.register_parametrization(m.bn1, "weight", Halved()),
    "state loaded": lambda m: m.load_state_dict({k: v + 1 for k, v in m.state_dict().items()}),
}


# These show in the buffers, in the gradients, or nowhere.
SAME_OUTPUT = {"momentum", "no momentum", "no running statistics", "reset", "frozen", "backward hook on the norm",
               "weight norm on the convolution"}  # fmt: skip


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


class TestLaterChanges:
    @pytest.mark.parametrize("change", CHANGES)
    def test_take_effect(self, change, pair):
        network, x = build("residual")
        network(x)
        fused, plain = pair(network)
        before = fused(x).detach()
        plain(x)
        for model in (fused, plain):
            torch.manual_seed(0)
            CHANGES[change](model)
        for _ in range(2):
            results = []
            for model in (fused, plain):
                inputs = x.clone().requires_grad_()
                output = model(inputs)
                wanted = [inputs, *(p for p in model.parameters() if p.requires_grad)]
                results.append((output, torch.autograd.grad(output.square().sum(), wanted, allow_unused=True)))
            assert_close(*results, **EXACT)
        assert_close(fused.state_dict(), plain.state_dict(), **EXACT)
        if change not in SAME_OUTPUT:
            assert not torch.allclose(results[0][0], before)

    def test_hook_added_and_removed(self, op):
        network, x = build("sequential")
        fuse(network)
        handle = network[3].register_forward_hook(lambda m, args, out: None)
        network(x)
        assert op.take() == 0
        assert "has a hook" in explain(network)["3"].reason
        handle.remove()
        network(x)
        assert op.take() == op.expected(1)

    def test_settings_read_by_the_forward(self, pair, op):
        network, x = build("functional")
        fused, plain = pair(network)
        for model in (fused, plain):
            model.slope = 0.4
        assert_close(fused(x), plain(x), **EXACT)
        assert op.take() == 0
        assert "fuse again" in explain(fused)["norms.0"].reason
        fuse(fused)
        assert_close(fused(x), plain(x), **EXACT)
        assert op.take() == op.expected(15)

    def test_global_constant_read_by_the_forward(self, pair, monkeypatch):
        network, x = build("functional")
        fused, plain = pair(network)
        monkeypatch.setattr(sys.modules[Functional.__module__], "SLOPE", 0.9)
        assert_close(fused(x), plain(x), **EXACT)

    def test_list_of_children_grows(self, pair):
        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.norms = nn.ModuleList([nn.BatchNorm2d(3)])

            def forward(self, x):
                for norm in self.norms:
                    x = F.relu(norm(x - 0.1))
                return x

        fused, plain = pair(Network())
        assert explain(fused)["norms.0"].kernel
        for model in (fused, plain):
            model.norms.append(nn.BatchNorm2d(3))
        x = torch.randn(4, 3, 2, 2)
        assert_close(fused(x), plain(x))

    def test_shared_child_is_parted(self, pair):
        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = self.second = nn.BatchNorm2d(3)
                self.act = nn.ReLU()

            def forward(self, x):
                return self.act(self.first(x)) + self.act(self.second(x * 2))

        fused, plain = pair(Network())
        assert explain(fused)["first"].kernel
        for model in (fused, plain):
            model.second = nn.BatchNorm2d(3, eps=3.0)
        x = torch.randn(4, 3, 2, 2)
        assert_close(fused(x), plain(x))

    def test_argument_with_a_default(self, pair, op):
        network, x = build("inherited")
        fused, plain = pair(network)
        assert_close(fused(x=x), plain(x), **EXACT)
        assert op.take() == op.expected(1)
        assert_close(fused(x, 2.0), plain(x, 2.0), **EXACT)
        assert_close(fused(x, noise=3.0), plain(x, 3.0), **EXACT)
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            fused(noise=1.0)
        with pytest.raises(TypeError, match="unexpected keyword"):
            fused(x, nose=1)


class TestSequential:
    @pytest.fixture
    def models(self, pair):
        return pair(build("sequential")[0])

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.append(nn.Tanh()),
            lambda m: m.insert(4, nn.Dropout(0.0)),
            lambda m: m.__setitem__(3, nn.InstanceNorm2d(6).double()),
            lambda m: m.__setitem__(4, nn.Softplus()),
            lambda m: m.__delitem__(3),
            lambda m: (m.__delitem__(4), m.append(nn.Softplus())),
            lambda m: (m.__delitem__(0), m.insert(0, nn.Conv2d(3, 8, 4, 2, 1).double())),
        ],
    )
    def test_changed_children(self, models, change):
        results = []
        for model in models:
            torch.manual_seed(0)
            change(model)
            results.append(model(build("sequential")[1]))
        assert_close(*results, **EXACT)

    def test_slices_and_items(self, models):
        fused, plain = models
        x = build("sequential")[1]
        assert_close(fused[:4](x), plain[:4](x), **EXACT)
        h = fused[:3](x)
        assert_close(fused[3:](h), plain[3:](h), **EXACT)
        assert_close(fused[3](h), plain[3](h), **EXACT)
        assert type(fused[3]) is nn.BatchNorm2d
        for mine, theirs in zip(fused, plain):
            assert type(mine) is type(theirs)
