"""Runs a network and its fused copy side by side and compares all that a user can see of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils import _pytree as pytree

from fastgan import fuse
from tests.fusion.fusion_networks import build

EXACT = {"rtol": 1e-9, "atol": 1e-11}  # of float64


def is_fused(model: nn.Module) -> bool:
    return any("_fastgan_fused" in vars(type(module)) for module in model.modules())


def loss_of(output: Any) -> Tensor:
    """A sum in which every value of the output counts differently."""
    leaves = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
    return sum((t * torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view_as(t)).sum() for t in leaves)


def run(model: nn.Module, x: Tensor, passes: int = 2) -> dict[str, Any]:
    """Outputs and gradients of some passes, with None for a gradient that there is not, and the state after them."""
    outputs, gradients = [], []
    for _ in range(passes):
        inputs = x.detach().clone().requires_grad_(x.requires_grad)
        for parameter in model.parameters():
            parameter.grad = None
        output = model(inputs)
        outputs.append(output)
        if (loss := loss_of(output)).requires_grad:
            loss.backward()
        gradients.append({"x": inputs.grad, **{name: p.grad for name, p in model.named_parameters()}})
    return {"outputs": outputs, "gradients": gradients, "state": dict(model.state_dict())}


def assert_equal(mine: Any, theirs: Any, of_largest: float = 0.0, **tolerance: float) -> None:
    """Tensors in any structure close to each other, everything else in it equal; names the place of a difference.

    of_largest: this share of a tensor's largest value is tolerated, too. In dtypes of few digits, what is left of a sum
    that cancels has an error of its terms.
    """
    (found, kind), (expected, expected_kind) = map(pytree.tree_flatten_with_path, (mine, theirs))
    assert kind == expected_kind, f"{kind} is not {expected_kind}"
    for (path, value), (_, other) in zip(found, expected):
        place = pytree.keystr(path)
        if isinstance(value, Tensor) and isinstance(other, Tensor):
            allowed = dict(tolerance or EXACT)
            if of_largest and other.numel():
                allowed["atol"] = max(allowed["atol"], of_largest * float(other.detach().abs().max()))
            assert_close(value, other, **allowed, msg=lambda text, place=place: f"{place}: {text}")
        else:
            assert value == other, f"{place}: {value!r} is not {other!r}"


def both(name: str, change: Callable[[nn.Module], Any] | None = None) -> tuple[nn.Module, nn.Module, Tensor]:
    """A network fused, the same unfused, and an input. `change` is done to both, after `fuse`."""
    network, x = build(name)
    plain, _ = build(name)
    fuse(network)
    assert is_fused(network)
    for model in (network, plain):
        if change is not None:
            change(model)
    return network, plain, x


def assert_same(fused: nn.Module, plain: nn.Module, x: Tensor, passes: int = 2, **tolerance: float) -> None:
    assert not is_fused(plain)
    assert_equal(run(fused, x, passes), run(plain, x, passes), **tolerance)
