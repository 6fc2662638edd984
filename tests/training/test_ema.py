"""The moving average against its formula."""

import contextlib

import pytest
import torch

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
