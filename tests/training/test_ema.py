"""The moving average against its formula."""

import contextlib

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from fastgan.systems import create
from fastgan.training.ema import EMA


def advance(system, value):
    with torch.no_grad():
        for tensor in system.state_dict().values():
            tensor.fill_(value)


def test_values_follow_the_formula(tiny):
    system = tiny()
    advance(system, 0)
    ema = EMA(system, 0.4)
    expected = 0.0
    for update, value in enumerate([1, 5, 2, 7, 3], start=1):
        advance(system, value)
        ema.begin()
        ema.update()
        decay = min(0.4, (1 + update) / (10 + update))  # reaches 0.4 at update 5
        expected = decay * expected + (1 - decay) * value
        for name, average in ema.averages.items():
            if average.is_floating_point():
                assert torch.allclose(average, torch.full_like(average, expected)), name
            else:
                assert average.item() == value, name


def test_holds_the_generator_with_its_buffers(tiny):
    system = tiny()
    names = set(EMA(system, 0.9).averages)
    assert names == {name for name in system.state_dict() if name.startswith("generator.")}
    assert any(name.endswith("running_var") for name in names)
    assert any(name.endswith("num_batches_tracked") for name in names)


def test_applied_inside_the_block_only(tiny):
    system = tiny()
    advance(system, 1)
    ema = EMA(system, 0.9)
    advance(system, 3)
    with contextlib.suppress(KeyError), ema.applied():
        assert all((tensor == 1).all() for tensor in system.generator.state_dict().values())
        assert all((tensor == 3).all() for tensor in system.discriminator.state_dict().values())
        raise KeyError
    assert all((tensor == 3).all() for tensor in system.generator.state_dict().values())
    assert all((tensor == 3).all() for tensor in system.discriminator.state_dict().values())
    assert all((average == 1).all() for average in ema.averages.values())


def test_follows_a_system_that_is_cast_and_moved(tiny):
    system = tiny()
    ema = EMA(system, 0.9)
    system.to(memory_format=torch.channels_last)
    advance(system, 2)
    for _ in range(300):
        ema.begin()
        ema.update()
    assert all(torch.allclose(a, torch.full_like(a, 2)) for a in ema.averages.values() if a.is_floating_point())


def test_state_dict(tiny):
    first, second = (EMA(tiny(), 0.9) for _ in range(2))
    first.averages["generator.0.conv.weight"].fill_(4)
    first.updates = 12
    second.load_state_dict(first.state_dict())
    assert second.updates == 12
    assert all(torch.equal(value, first.averages[name]) for name, value in second.averages.items())
    with pytest.raises(ValueError, match="belongs to other networks"):
        second.load_state_dict({"updates": 1, "averages": {}})


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_says_what_is_wrong(tiny, decay):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        EMA(tiny(), decay)


def trained(system, ema, steps=40):
    """Weights that move as in training, and their average."""
    random = torch.Generator().manual_seed(0)
    for _ in range(steps):
        with torch.no_grad():
            for parameter in system.parameters():
                parameter += 0.2 * parameter.std(correction=0) * torch.randn(parameter.shape, generator=random)
        yield
        ema.begin()
        ema.update()


def norms(network):
    """The spectral norms of the weights that its layers use, by a singular value decomposition."""
    found = {}
    for name, module in network.named_modules():
        if parametrizations_of := getattr(module, "parametrizations", None):
            if "weight" in parametrizations_of:
                weight = module.weight
        elif hasattr(module, "weight_orig"):
            weight = module.weight
        else:
            continue
        dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        found[name] = torch.linalg.svdvals(weight.detach().double().transpose(0, dim).flatten(1))[0].item()
    return found


class TestSpectralNorm:
    def test_of_an_averaged_sngan(self):
        system = create("sngan", resolution=32, width=8, discriminator_width=8)
        type(system).averaged, kept = ("generator", "discriminator"), type(system).averaged
        try:
            ema = EMA(system, 0.9)
        finally:
            type(system).averaged = kept
        for _ in trained(system, ema):
            system.discriminator(torch.randn(4, 3, 32, 32))
        with ema.applied():
            system.eval()
            system.discriminator(torch.randn(4, 3, 32, 32))
            found = norms(system.discriminator)
        assert len(found) > 5
        assert found == pytest.approx(dict.fromkeys(found, 1), rel=2e-3)

    @pytest.mark.parametrize("normed", [spectral_norm, parametrizations.spectral_norm])
    def test_of_layers(self, tiny, normed):
        """Both of PyTorch's kinds, in a generator; the state that is saved is that network, as often as it is asked."""
        system = tiny()
        system.generator = nn.Sequential(
            normed(nn.Linear(8, 6)), nn.ReLU(), nn.Unflatten(1, (6, 1, 1)), normed(nn.ConvTranspose2d(6, 5, 4))
        )
        ema = EMA(system, 0.9)
        for _ in trained(system, ema):
            system.generator(torch.randn(3, 8))
        saved = {name: value.clone() for name, value in ema.state_dict()["averages"].items()}
        assert all(torch.equal(value, saved[name]) for name, value in ema.state_dict()["averages"].items())
        system.load_state_dict({**system.state_dict(), **saved})
        system.eval()
        system.generator(torch.randn(3, 8))
        found = norms(system.generator)
        assert len(found) == 2
        assert found == pytest.approx(dict.fromkeys(found, 1), rel=2e-3)


def test_copies_what_has_no_mean(tiny):
    system = tiny()
    module = system.generator.module = nn.Module()
    module.statistics = ("moments",)
    for name, value in {"counter": 0.0, "moments": 0.0, "whole": 0, "flag": False}.items():
        module.register_buffer(name, torch.tensor(value))
    ema = EMA(system, 0.9)
    for value in (1, 2):
        for buffer in module.buffers():
            buffer.fill_(value)
        ema.begin()
        ema.update()
    found = {name.rpartition(".")[2]: value.item() for name, value in ema.averages.items() if ".module." in name}
    assert (found["counter"], found["whole"], found["flag"]) == (2, 2, True)
    assert 0 < found["moments"] < 2


def test_a_weight_of_two_layers_is_one(tiny):
    """Swapped under both of its names, it would be lost."""
    system = tiny()
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    system.generator.pair = nn.ModuleList([first, second])
    ema = EMA(system, 0.5)
    before = {name: value.clone() for name, value in system.state_dict().items()}
    with torch.no_grad():
        first.weight += 1
    after = first.weight.detach().clone()
    ema.begin()
    ema.update()
    with ema.applied():
        assert torch.allclose(first.weight, after - 2 / 11)
        assert not torch.equal(first.weight, before["generator.pair.0.weight"])
    assert torch.equal(first.weight, after)
