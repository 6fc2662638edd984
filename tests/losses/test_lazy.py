"""Lazy regularisation: when it computes, what it adds up to, and that a resumed run goes on with its count."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn

from fastgan.losses import Lazy, gradient_penalty, r1


def linear(images):
    return images.flatten(1) @ weight


weight = torch.tensor([1.0, 2.0, 2.0], requires_grad=True)
R1 = 45.0  # 10 / 2 * (1 + 4 + 4)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_every_nth_call_n_times_as_strong(every):
    penalty = Lazy(r1, every)
    values = []
    for call in range(2 * every + 1):
        assert penalty.due is (call % every == 0)
        value = penalty(linear, torch.randn(4, 3))
        assert value.requires_grad is (call % every == 0)
        values.append(value.item())
    expected = [every * R1 if call % every == 0 else 0 for call in range(2 * every + 1)]
    assert values == pytest.approx(expected)
    assert sum(values[:every]) / every == pytest.approx(R1)  # over a period: the penalty itself


def test_gradient_of_a_period_is_the_penaltys():
    penalty, real = Lazy(r1, every=3), torch.randn(4, 3)
    (expected,) = torch.autograd.grad(r1(linear, real, gamma=2.0), weight)
    (grad,) = torch.autograd.grad(sum(penalty(linear, real, gamma=2.0) for _ in range(6)) / 6, weight)
    torch.testing.assert_close(grad, expected)


def test_computes_only_when_due():
    calls = []

    def penalty(*arguments, **named):
        calls.append((arguments, named))
        return torch.ones(())

    lazy = Lazy(penalty, every=4)
    for _ in range(9):
        lazy("a", b=2)
    assert calls == [(("a",), {"b": 2})] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_zero(dtype):
    penalty = Lazy(lambda *arguments, **named: torch.ones(()), every=2)
    images = torch.randn(2, 3, dtype=dtype, device="meta", requires_grad=True)
    labels = torch.zeros(2, dtype=torch.int64)  # comes first, but says nothing about the dtype
    for arguments, named in [((linear, labels, images), {}), ((linear,), {"real": images})]:
        penalty.calls = 1
        zero = penalty(*arguments, **named)
        assert zero.shape == ()
        assert not zero.requires_grad
        assert zero.device.type == "meta"
        assert zero.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    penalty.calls = 1
    assert penalty(linear, torch.randn(2, 3)).item() == 0
    penalty.calls = 1
    assert torch.equal(penalty(), torch.zeros(()))


def test_a_resumed_run_goes_on_with_its_count(tmp_path):
    system = nn.ModuleDict({"network": nn.Linear(3, 1), "penalty": Lazy(r1, every=4)})
    real = torch.randn(2, 3)
    for _ in range(6):
        system["penalty"](system["network"], real)
    torch.save(system.state_dict(), tmp_path / "state.pt")
    other = nn.ModuleDict({"network": nn.Linear(3, 1), "penalty": Lazy(r1, every=4)})
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert copy.deepcopy(system)["penalty"].calls == 6
    for _ in range(7):
        assert other["penalty"].due is system["penalty"].due
        expected = system["penalty"](system["network"], real)
        assert torch.equal(other["penalty"](other["network"], real), expected)
    assert other["penalty"].calls == 13


def test_the_state_is_a_tensor():
    """So that every format of state_dicts can hold it."""
    penalty = Lazy(r1)
    penalty.calls = 2**40
    assert all(isinstance(value, torch.Tensor) for value in penalty.state_dict().values())
    other = Lazy(r1)
    other.load_state_dict(penalty.state_dict())
    assert other.calls == 2**40


def test_a_call_that_raises_does_not_count():
    penalty = Lazy(r1, every=2)
    with torch.no_grad(), pytest.raises(RuntimeError, match="needs grad mode"):
        penalty(linear, torch.randn(2, 3))
    assert penalty.due
    assert penalty(linear, torch.randn(2, 3)).item() == pytest.approx(2 * R1)


def test_repr():
    assert repr(Lazy(gradient_penalty)) == "Lazy(gradient_penalty, every=16)"
    assert repr(Lazy(functools.partial(r1, gamma=1), every=4)) == "Lazy(partial, every=4)"


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        Lazy(r1, every=0)
    for every in (1.5, True):
        with pytest.raises(TypeError, match=r"every must be an integer, not (float|bool)"):
            Lazy(r1, every=every)
    with pytest.raises(TypeError, match="penalty must be callable, not int"):
        Lazy(16)
