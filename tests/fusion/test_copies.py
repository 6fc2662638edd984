"""Copies and pickles of a fused network are fused networks; its state is that of an unfused one."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fastgan import explain, fuse, unfuse
from tests.fusion.comparing import EXACT, assert_equal, assert_same, both, is_fused, run
from tests.fusion.fusion_networks import NETWORKS, Residual, build
from tests.fusion.spawned import compute


def classes(network):
    return [type(m) for m in network.modules()]


def places(network: nn.Module) -> int:
    return sum(row.kernel != "" and row.reason != "not fused yet" for row in explain(network))


@pytest.mark.parametrize("name", NETWORKS)
class TestCopies:
    @pytest.mark.parametrize("how", ["deepcopy", "pickle", "save"])
    def test_come_back_fused(self, name, how, op):
        network, x = build(name)
        fuse(network)
        if how == "deepcopy":
            other = copy.deepcopy(network)
            assert classes(other) == classes(network)
        elif how == "pickle":
            other = pickle.loads(pickle.dumps(network))
        else:
            torch.save(network, file := io.BytesIO())
            file.seek(0)
            other = torch.load(file, weights_only=False)
        assert not {id(p) for p in other.parameters()} & {id(p) for p in network.parameters()}
        expected = network(x)
        calls = op.take()
        assert calls >= op.expected(NETWORKS[name][2])
        assert_close(other(x), expected, **EXACT)
        assert op.take() == calls
        assert_close(other.state_dict(), network.state_dict(), **EXACT)
        kinds = classes(build(name)[0])
        assert classes(unfuse(other)) == kinds

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_every_protocol(self, name, protocol):
        """Protocols 0 and 1 are those of objects without __newobj__."""
        fused, plain, x = both(name)
        other = pickle.loads(pickle.dumps(fused, protocol))
        assert is_fused(other)
        assert_same(other, plain, x)

    def test_shallow_copies_share(self, name):
        fused, plain, x = both(name)
        mine, theirs = copy.copy(fused), copy.copy(plain)
        assert type(mine) is type(fused)
        assert all(a is b for a, b in zip(mine.parameters(), fused.parameters()))
        assert_same(mine, theirs, x)
        assert_same(fused, plain, x)  # with the statistics that the copy has moved

    def test_state_alone(self, name):
        """The state of either loads into the other, as tensors alone."""
        fused, plain, x = both(name)
        run(fused, x)
        for saved, loaded in ((fused, plain), (plain, fused)):
            torch.save(saved.state_dict(), file := io.BytesIO())
            file.seek(0)
            loaded.load_state_dict(torch.load(file, weights_only=True), strict=True)
            assert_equal(dict(loaded.state_dict()), dict(saved.state_dict()))
        assert_same(fused, plain, x)


def test_a_copy_has_its_own_children():
    network = fuse(Residual().double())
    other = copy.deepcopy(network)
    nn.init.constant_(other.bn1.weight, 7.0)
    other.bn1 = nn.InstanceNorm2d(3)
    assert type(network.bn1) is nn.BatchNorm2d
    assert (network.bn1.weight == 1).all()


def test_copies_with_what_they_carry():
    """Hooks, optimizers and references to itself in one pickle: what belongs together stays together."""
    results = []
    for model in both("nested")[:2]:
        x = build("nested")[1]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        model.again = [model[0]]
        model[0].bn1.register_forward_hook(twice)
        model, optimizer = copy.deepcopy((model, optimizer))
        model, optimizer = pickle.loads(pickle.dumps((model, optimizer)))
        assert model.again[0] is model[0]
        assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model.parameters()]
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        results.append(dict(model.state_dict()))
    assert_equal(*results, rtol=1e-7, atol=1e-9)


def twice(module, args, output):
    return output * 2


@pytest.mark.processes
def test_other_processes(tmp_path):
    """A process that has just been spawned gets one network as an argument and reads another from a file."""
    fused, plain, x = both("nested")
    torch.save(fused, tmp_path / "model.pt")
    context = torch.multiprocessing.get_context("spawn")
    process = context.Process(target=compute, args=(fused, x, str(tmp_path)))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    expected = run(plain, x)
    for name in ("argument", "file"):
        found, count = torch.load(tmp_path / f"{name}.pt")
        assert count == places(fused)
        assert_equal(found, expected)


def test_a_pickle_names_what_will_be_there():
    """Pickles are kept: what one names of FastGAN must not move."""
    named = set()

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            named.add(f"{module}.{name}")
            return super().find_class(module, name)

    assert is_fused(Reader(io.BytesIO(pickle.dumps(fuse(Residual())))).load())
    ours = {name for name in named if name.startswith("fastgan.")}
    assert ours == {"fastgan.fusion.rewrite._new", "fastgan.fusion.rewrite._unpickled"}
