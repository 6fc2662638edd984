from __future__ import annotations

import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from fastgan import backend
from fastgan.systems.optimizers import Adam

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SHAPES = ((8, 4, 3, 3), (8, 1, 3, 3), (1, 8, 4, 4), (5, 7, 1, 1), (8,), (6, 8), (), (4, 3, 5))


def parameters(layout: str, seed: int = 0) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    return [nn.Parameter(laid(torch.randn(shape), layout)) for shape in SHAPES]


def laid(x: torch.Tensor, layout: str) -> torch.Tensor:
    return x.contiguous(memory_format=LAYOUTS[layout]) if x.dim() == 4 else x


def stepped(optimizer: torch.optim.Optimizer, layout: str, steps: int = 3) -> list[torch.Tensor]:
    """The parameters after some steps with gradients of that layout."""
    (group,) = optimizer.param_groups
    for step in range(steps):
        for parameter, gradient in zip(group["params"], parameters(layout, seed=1 + step)):
            parameter.grad = gradient.detach()
        optimizer.step()
    return [parameter.detach() for parameter in group["params"]]


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bits_are_those_of_pytorch(layout, amsgrad):
    ours, theirs = (
        stepped(kind(parameters(layout), lr=0.1, fused=True, amsgrad=amsgrad), layout)
        for kind in (Adam, torch.optim.Adam)
    )
    assert all(map(torch.equal, ours, theirs))
    assert [p.stride() for p in ours] == [p.stride() for p in theirs]


@pytest.mark.parametrize("of_gradients", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_another_layout(layout, of_gradients):
    fused = stepped(Adam(parameters(layout), lr=0.1, fused=True), of_gradients)
    single = stepped(torch.optim.Adam(parameters("contiguous"), lr=0.1, foreach=False), "contiguous")
    torch.testing.assert_close(fused, single)


def test_loaded_averages_of_another_layout():
    contiguous, last = (Adam(parameters(layout), lr=0.1, fused=True) for layout in LAYOUTS)
    stepped(contiguous, "contiguous")
    stepped(last, "channels_last")
    last.load_state_dict(deepcopy(contiguous.state_dict()))
    torch.testing.assert_close(stepped(last, "channels_last"), stepped(contiguous, "contiguous"))


@pytest.mark.parametrize(("how", "copies"), [("auto", 0), ("torch", 2)])
def test_nothing_is_copied_in_channels_last(how, copies):
    """PyTorch copies the two gradients here that are channels_last and not contiguous as well. Where it no longer does,
    the class is of no use."""
    optimizer = Adam(parameters("channels_last"), lr=0.1, fused=True)
    stepped(optimizer, "channels_last")
    with profile(activities=[ProfilerActivity.CPU]) as found, backend.using(how):
        optimizer.step()
    assert sum(event.name == "aten::clone" for event in found.events()) == copies


def test_state_is_that_of_pytorch():
    optimizer = Adam(parameters("channels_last"), lr=0.1, fused=True)
    theirs = torch.optim.Adam(parameters("channels_last"), lr=0.1, fused=True)
    stepped(optimizer, "channels_last")
    theirs.load_state_dict(optimizer.state_dict())
    for parameter, state in optimizer.state.items():
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape


def test_training_does_not_import_the_compiler():
    code = (
        "import sys, torch, fastgan\n"
        "from fastgan.systems.optimizers import Adam\n"
        "p = torch.nn.Parameter(torch.ones(3))\n"
        "optimizer = Adam([p], lr=0.1, fused=True)\n"
        "(p ** 2).sum().backward()\n"
        "optimizer.step(); optimizer.zero_grad(); optimizer.load_state_dict(optimizer.state_dict())\n"
        "assert not p.grad_fn and p.requires_grad\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
