"""tune measures every layer with several ways, leaves the network as it is, and fused networks follow."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fastgan import autotune, tuning
from fastgan.autotune import tune
from fastgan.convolutions import convolution, linear, products
from fastgan.fusion import explain, fuse
from fastgan.tuning import choices, store


class Net(nn.Module):
    def __init__(self, wide=8):
        super().__init__()
        self.conv = nn.Conv2d(4, wide, 4, 2, 1)
        self.norm = nn.BatchNorm2d(wide)
        self.up = nn.utils.parametrizations.spectral_norm(nn.ConvTranspose2d(wide, 6, 4, 2, 1))
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(6 * 64, 5)

    def forward(self, x):
        return self.out(self.drop(self.up(self.norm(self.conv(x)))).flatten(1))


def example():
    return torch.randn(3, 4, 8, 8)


@pytest.fixture
def fast(monkeypatch, small_layers):
    """Measures in no time: the faster way of each layer is `fast.way`."""

    class Clock:
        way = "mm"

        def __call__(self, calls, rounds):
            return {name: [1.0 if name == self.way else 2.0] * rounds for name in calls}

    clock = Clock()
    monkeypatch.setattr(autotune, "_interleaved", clock)
    return clock


def state(model):
    return [t.detach().clone() for t in (*model.parameters(), *model.buffers())]


def test_measures_every_product_once(fast, cache):
    report = tune(Net(), example())
    convolutions = ["convolution.correlate", "convolution.spread", "convolution.weight_gradient"]
    rest = ["linear.forward", "linear.input_gradient", "linear.weight_gradient"]
    assert sorted(row.op for row in report) == sorted([*convolutions * 2, *rest])
    assert {row.choice for row in report} == {"mm", "torch"}
    assert report.file == store.path()
    assert "remembered in" in str(report)
    assert "4x8x8 to 8x4x4, kernel 4x4, batch 3, float32" in str(report)
    assert "9 calls measured" in str(report)


def test_leaves_everything_as_it_is(fast):
    model = Net()
    model(example()).sum().backward()
    model.drop.eval()
    before, gradients = state(model), {name: p.grad for name, p in model.named_parameters()}
    values = {name: g.clone() for name, g in gradients.items() if g is not None}
    flags, buffers = [m.training for m in model.modules()], [id(b) for b in model.buffers()]
    x = example()
    random_state = torch.get_rng_state()
    tune(model, x)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_close(state(model), before, rtol=0, atol=0)
    assert [m.training for m in model.modules()] == flags
    assert [id(b) for b in model.buffers()] == buffers
    for name, p in model.named_parameters():
        assert p.grad is gradients[name]
        assert p.grad is None or torch.equal(p.grad, values[name])
    assert not x.requires_grad


def test_a_run_that_trains(fast):
    model = Net()
    before = state(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def run():
        model.eval()
        model.train()
        for _ in range(2):
            optimizer.zero_grad()
            model(example()).sum().backward()
            optimizer.step()

    assert len(tune(model, run)) == 8  # the first layer's input needs no gradient here
    assert_close(state(model), before, rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())


def test_also_after_an_error(fast):
    model = Net()
    before = state(model)

    def run():
        model(example()).sum().backward()
        raise KeyError("no")

    with pytest.raises(KeyError):
        tune(model, run)
    assert_close(state(model), before, rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())
    assert choices._recorded.get() is None


def test_under_autocast_and_without_gradients(fast):
    model = Net().requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        report = tune(model, example())
    assert {"bfloat16" in row.text for row in report} == {True}
    with torch.no_grad():
        assert len(tune(model, lambda: model(example()))) == 3


def test_the_choice_is_used_from_then_on_and_in_later_processes(fast, monkeypatch):
    model, x = Net(), example()
    conv = model.conv
    used = []
    monkeypatch.setattr(products, "mm", lambda *a, original=products.mm: used.append(1) or original(*a))
    convolution.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
    assert used == []
    tune(model, x)
    for _ in range(2):
        used.clear()
        y = convolution.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)
        assert len(used) == 1
        assert_close(y, conv(x), rtol=1e-4, atol=1e-4)
        tuning.forget()  # as a new process


def test_pytorch_is_kept_where_nothing_is_faster(fast):
    fast.way = "none"
    assert {row.choice for row in tune(Net(), example())} == {"torch"}
    assert {row.gain for row in tune(Net(), example())} == {1.0}


@pytest.mark.parametrize(
    ("theirs", "ours", "chosen"),
    [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], "mm"),
        ([1.04, 1.04, 1.04], [1.0, 1.0, 1.0], "torch"),  # not by 5 %
        ([1.04, 9.0, 9.0], [1.0, 1.0, 1.0], "torch"),  # PyTorch was disturbed
        ([2.0, 2.0, 2.0], [1.0, 3.0, 3.0], "torch"),
        ([8e-5, 8e-5, 8e-5], [4e-5, 4e-5, 4e-5], "torch"),  # seconds that the call itself costs
    ],
)
def test_what_counts_as_faster(monkeypatch, small_layers, theirs, ours, chosen):
    monkeypatch.setattr(
        autotune, "_interleaved", lambda calls, rounds: {n: ours if n == "mm" else theirs for n in calls}
    )
    assert {row.choice for row in tune(nn.Sequential(nn.Conv2d(4, 4, 3)), example())} == {chosen}


def test_wrong_numbers_are_never_chosen(fast, monkeypatch):
    monkeypatch.setattr(products, "mm", lambda *a, original=products.mm: original(*a) * 1.001)
    report = tune(nn.Sequential(nn.Conv2d(4, 4, 3)), example())
    assert {row.choice for row in report} == {"torch"}
    assert all("off by" in row.rejected["mm"] for row in report)
    assert "off by" in str(report)


def test_ways_that_fail_are_never_chosen(fast, monkeypatch):
    def fail(*args):
        raise RuntimeError("not here")

    monkeypatch.setattr(products, "mm", fail)
    report = tune(nn.Sequential(nn.Conv2d(4, 4, 3)), example())
    assert {row.choice for row in report} == {"torch"}
    assert "RuntimeError: not here" in report.rows[0].rejected["mm"]


def test_it_really_measures(small_layers):
    report = tune(nn.Sequential(nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(288, 3)), torch.randn(2, 8, 8, 8), rounds=1)
    assert len(report) == 6
    assert all(ms > 0 for row in report for ms in row.milliseconds.values())
    assert all(row.gain >= 1 for row in report)


def test_nothing_to_tune(cache):
    report = tune(nn.ReLU(), torch.randn(3))
    assert str(report).startswith("nothing to tune")
    assert not cache.exists()


def test_cache_that_cannot_be_written(fast, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be") as caught:
        report = tune(Net(), example())
    assert len(caught) == 2  # read, written
    assert report.file is None
    assert "by this process only" in str(report)
    assert "mm" in tuning.found().values()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.relu, example()), TypeError, r"takes a torch\.nn\.Module, not builtin"),
        ((nn.ReLU(), [1]), TypeError, "a tensor, a tuple of the module's arguments or a function .* not list"),
        ((nn.ReLU(), None), TypeError, "not NoneType"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        tune(*arguments)
    with pytest.raises(ValueError, match="rounds must be at least 1, not 0"):
        tune(nn.ReLU(), example(), rounds=0)


class TestFuse:
    """A network whose layers were tuned, fused."""

    def network(self):
        return nn.Sequential(nn.Conv2d(4, 8, 4, 2, 1), nn.Flatten(), nn.Linear(128, 5))

    def test_nothing_without_a_measurement(self, small_layers):
        assert [row.kernel for row in explain(fuse(self.network()))] == []

    @pytest.mark.parametrize("way", ["mm", "onednn"])
    def test_follows_the_measurement(self, fast, way, monkeypatch):
        fast.way = way
        model, x = self.network(), example()
        plain = copy.deepcopy(model)
        tune(model, x)
        fuse(model)
        used = []
        monkeypatch.setattr(convolution, "_forward", lambda *a, f=convolution._forward: used.append("conv") or f(*a))
        monkeypatch.setattr(linear, "_forward", lambda *a, f=linear._forward: used.append("linear") or f(*a))
        results = []
        for network in (model, plain):
            x_ = x.clone().requires_grad_()
            y = network(x_)
            (g,) = torch.autograd.grad(y.square().sum(), x_, create_graph=True)
            g.square().sum().backward()
            results.append([y, g, *(p.grad for p in network.parameters())])
        assert_close(*results, rtol=1e-4, atol=1e-4)
        assert used == (["conv", "linear"] if way == "onednn" else ["conv"])

    def test_hooks_and_replaced_forwards_run(self, fast):
        fast.way = "onednn"
        model, x = self.network(), example()
        tune(model, x)
        fuse(model)
        for layer in (model[0], model[2]):
            handle = layer.register_forward_hook(lambda module, args, y: y * 0)
            assert not model(x)[:, 0].ne(model[2].bias[0] * (layer is model[0])).any()
            handle.remove()
        with torch.no_grad():
            compiled = torch.compile(model, backend="eager")
            assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)

    def test_spectral_norm(self, fast):
        model, x = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 8, 4, 2, 1))), example()
        old = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(4, 8, 4, 2, 1)))
        for network in (model, old):
            plain = copy.deepcopy(network)
            tune(network, x)
            fuse(network)
            assert [row.kernel for row in explain(network)] == ["convolution (PyTorch)"]
            assert_close(network(x), plain(x), rtol=1e-4, atol=1e-4)
            for (name, a), (_, b) in zip(network.named_buffers(), plain.named_buffers()):
                assert_close(a, b, msg=name)

    def test_an_activation_after_a_bias_belongs_to_bias_act(self):
        conv = nn.Conv2d(64, 128, 4, 2, 1)
        assert [row.kernel for row in explain(nn.Sequential(conv, nn.LeakyReLU(0.2, True)))] == ["bias_act (native)"]
        conv.bias = None
        assert [row.kernel for row in explain(nn.Sequential(conv, nn.LeakyReLU()))] == ["convolution (PyTorch)"]

    def test_large_layers_by_the_rule(self):
        model = nn.Sequential(nn.Conv2d(64, 128, 4, 2, 1), nn.Conv2d(128, 256, 1), nn.Conv2d(256, 256, 3, groups=2))
        assert [row.path for row in explain(fuse(model))] == ["0"]
