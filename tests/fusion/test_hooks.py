"""Hooks of every kind and on every module see and change the same in a fused network as in an unfused one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as every_module
from torch.utils import _pytree as pytree

from fastgan import fuse
from tests.fusion.comparing import assert_equal, assert_same, both, is_fused, run
from tests.fusion.fusion_networks import build


class Seen(list):
    """What hooks were given, in order."""

    def note(self, *values: Any) -> None:
        self.append(pytree.tree_map(lambda v: v.detach().clone() if isinstance(v, torch.Tensor) else v, values))


def forward_hook(module, seen):
    def hook(module, args, output):
        seen.note("forward", type(module).__name__, args, output)
        return output * 1.5

    return module.register_forward_hook(hook)


def forward_hook_with_kwargs(module, seen):
    def hook(module, args, kwargs, output):
        seen.note("forward", args, kwargs, output)
        return output + 0.25

    return module.register_forward_hook(hook, with_kwargs=True, prepend=True)


def forward_hook_always(module, seen):
    return module.register_forward_hook(lambda m, args, output: seen.note("always", args, output), always_call=True)


def pre_hook(module, seen):
    def hook(module, args):
        seen.note("before", args)
        return args[0] * 1.25

    return module.register_forward_pre_hook(hook)


def pre_hook_with_kwargs(module, seen):
    def hook(module, args, kwargs):
        seen.note("before", args, kwargs)
        return (args[0] + 0.5,), kwargs

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def backward_hook(module, seen):
    def hook(module, grad_input, grad_output):
        seen.note("backward", grad_input, grad_output)
        return tuple(g * 2 for g in grad_input)

    return module.register_full_backward_hook(hook)


def backward_pre_hook(module, seen):
    def hook(module, grad_output):
        seen.note("before backward", grad_output)
        return tuple(g * 3 for g in grad_output)

    return module.register_full_backward_pre_hook(hook)


def optimizer_step(optimizer):
    optimizer.step()
    optimizer.zero_grad()


HOOKS = [forward_hook, forward_hook_with_kwargs, forward_hook_always, pre_hook, pre_hook_with_kwargs, backward_hook,
         backward_pre_hook]  # fmt: skip


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ELU()

    def forward(self, x):
        return x + self.act(self.norm(self.conv(x)))


def network() -> tuple[nn.Module, torch.Tensor]:
    """Nothing in place: PyTorch itself refuses a backward hook on a module whose result is then overwritten."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.LeakyReLU(0.2)),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4)),
        Block(),
        nn.Conv2d(4, 4, 3),
        nn.InstanceNorm2d(4, affine=True),
    )
    return made.double(), torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)


PLACES = [path for path, _ in network()[0].named_modules()]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
class TestHooksOfOneModule:
    @pytest.mark.parametrize("path", PLACES)
    def test_see_and_change_the_same(self, path, hook, when):
        results, models, handles = [], [], []
        for fused in (True, False):
            (model, x), seen = network(), Seen()
            if fused and when == "after":
                fuse(model)
            handles.append(hook(model.get_submodule(path), seen))
            if fused and when == "before":
                fuse(model)
            results.append((run(model, x, passes=1), list(seen)))
            models.append(model)
        assert results[0][1]
        assert_equal(*results)
        # A hook changes nothing once it is removed.
        for handle in handles:
            handle.remove()
        if when == "before":
            fuse(models[0])
        assert is_fused(models[0])
        assert_same(*models, x, passes=1)

    def test_on_all_of_them(self, hook, when):
        results = []
        for fused in (True, False):
            (model, x), seen = network(), Seen()
            if fused and when == "after":
                fuse(model)
            for module in model.modules():
                hook(module, seen)
            if fused and when == "before":
                fuse(model)
            results.append((run(model, x), list(seen)))
        assert_equal(*results)


@pytest.mark.parametrize(
    "register",
    [
        every_module.register_module_forward_pre_hook,
        every_module.register_module_forward_hook,
        every_module.register_module_full_backward_pre_hook,
        every_module.register_module_full_backward_hook,
    ],
    ids=lambda register: register.__name__,
)
def test_hooks_of_all_modules(register):
    results = []
    for fused in (True, False):
        (model, x), seen = network(), Seen()
        if fused:
            fuse(model)
        handle = register(lambda module, *given, seen=seen: seen.note(type(module).__name__, *given))
        try:
            results.append((run(model, x, passes=1), list(seen)))
        finally:
            handle.remove()
    assert len(results[0][1]) == len(PLACES)  # every module, not the outer ones alone
    assert_equal(*results)


@pytest.mark.parametrize("path", ["", "3"])
def test_hook_that_runs_although_the_forward_raised(path):
    for model in both("sequential")[:2]:
        seen = Seen()
        model.get_submodule(path).register_forward_hook(lambda *given, seen=seen: seen.note(1), always_call=True)
        model[2] = nn.Conv2d(8, 5, 4, 2, 1).double()  # a channel too few for the norm
        with pytest.raises((RuntimeError, ValueError)):
            model(build("sequential")[1])
        assert len(seen) == 1


class TestHooksOfTensors:
    def test_gradients_of_parameters(self):
        results = []
        for model in both("nested")[:2]:
            seen = Seen()
            x = build("nested")[1]
            for name, parameter in model.named_parameters():
                parameter.register_hook(lambda grad, name=name, seen=seen: seen.note(name, grad))
            results.append((run(model, x), sorted(seen, key=lambda values: values[0])))
        assert len(results[0][1]) == 2 * len(list(model.parameters()))
        assert_equal(*results)

    def test_optimizer_inside_backward(self):
        """A hook that runs when the gradient of a parameter is whole, and steps."""
        states = []
        for model in both("nested")[:2]:
            for parameter in model.parameters():
                steps = torch.optim.SGD([parameter], lr=0.05)
                parameter.register_post_accumulate_grad_hook(lambda _, steps=steps: optimizer_step(steps))
            states.append(run(model, build("nested")[1], passes=3))
        assert_equal(*states)

    def test_saved_tensors(self):
        results = []
        for model in both("nested")[:2]:
            with torch.autograd.graph.save_on_cpu():
                results.append(run(model, build("nested")[1].requires_grad_()))
        assert_equal(*results)


class TestHooksOfTheState:
    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize(("name", "path"), [("sequential", ""), ("sequential", "3"), ("nested", "0"),
                                                ("nested", "0.bn1"), ("nested", "1.0.norm")])  # fmt: skip
    def test_state_dict(self, name, path, when):
        def doubled(module, state, prefix, metadata):
            for key in state:
                if key.startswith(prefix):
                    state[key] = state[key] * 2
            state[prefix + "extra"] = torch.ones(2)

        def taken(module, state, prefix, metadata, strict, missing, unexpected, errors):
            seen.note(sorted(state), prefix, strict)
            state.pop(prefix + "extra", None)

        def loaded(module, keys):
            seen.note(list(keys.missing_keys), list(keys.unexpected_keys))

        results = []
        for fused in (True, False):
            model, x = build(name)
            seen = Seen()
            if fused and when == "after":
                fuse(model)
            inner = model.get_submodule(path)
            inner.register_state_dict_pre_hook(lambda m, prefix, keep, seen=seen: seen.note(prefix, keep))
            inner.register_state_dict_post_hook(doubled)
            inner.register_load_state_dict_pre_hook(taken)
            inner.register_load_state_dict_post_hook(loaded)
            if fused and when == "before":
                fuse(model)
            state = {key: value.clone() for key, value in model.state_dict().items()}
            model.load_state_dict(state)
            results.append((state, run(model, x), list(seen)))
        assert len(results[0][2]) == 4  # before each of two state_dict, before and after load_state_dict
        assert_equal(*results)
