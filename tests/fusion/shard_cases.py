"""What each of two processes runs for test_sharding: each case trains a fused and an unfused network under FSDP."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    fully_shard,
)
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from fastgan import explain, fuse
from tests.fusion.comparing import is_fused, loss_of
from tests.fusion.fusion_networks import build
from tests.fusion.rank_cases import STEPS, both, optimizer_of


def networks(name: str) -> tuple[nn.Module, torch.Tensor]:
    if name != "instances":
        return build(name)
    torch.manual_seed(0)
    norms = [nn.InstanceNorm2d(4, affine=True, track_running_stats=track) for track in (True, False)]
    made = nn.Sequential(nn.Conv2d(3, 4, 3), norms[0], nn.SiLU(), nn.Conv2d(4, 4, 3), norms[1], nn.ReLU())
    return made, torch.randn(4, 3, 9, 9)


# Which modules of a network are sharded, the innermost first.
UNITS: dict[str, Callable[[nn.Module], Iterator[nn.Module]]] = {
    "root": lambda network: iter([network]),
    "children": lambda network: iter([*(m for m in network.children() if list(m.parameters())), network]),
    "every module": lambda network: reversed([m for m in network.modules() if list(m.parameters())]),
}


def train(network: nn.Module, forward: nn.Module, x: torch.Tensor, rank: int) -> list[torch.Tensor]:
    """The outputs of some steps, two passes each."""
    optimizer, outputs = optimizer_of(forward), []
    for step in range(STEPS):
        optimizer.zero_grad()
        part = (x + step).chunk(2)[rank]
        passes = forward(part), forward(part * 2)
        loss_of([t.double() for t in passes]).backward()
        optimizer.step()
        outputs += [t.detach() for t in passes]
    return [*outputs, forward.eval()(x.chunk(2)[rank]).detach()]


def sharded(rank: int, fused: bool, *, when: str, units: str, name: str = "nested", **options: Any) -> dict[str, Any]:
    """fully_shard, on parts of the network that may themselves be fused."""
    network, x = networks(name)
    if fused and when == "before":
        fuse(network)
        assert is_fused(network)
    mesh = init_device_mesh("cpu", (2,))
    for module in UNITS[units](network):
        fully_shard(module, mesh=mesh, **options)
    if fused and when == "after":
        kinds = {module: type(module) for module in network.modules() if isinstance(module, FSDPModule)}
        fuse(network)
        assert {module: type(module) for module in kinds} == kinds
    rows = explain(network).to_dict()["rows"]
    outputs = train(network, network, x, rank)
    state = {name: value.full_tensor() if hasattr(value, "full_tensor") else value.clone()
             for name, value in network.state_dict().items()}  # fmt: skip
    return {"outputs": outputs, "state": state, "rows": rows}


def wrapped(rank: int, fused: bool, *, when: str, name: str = "nested", **options: Any) -> dict[str, Any]:
    """FullyShardedDataParallel, the older wrapper."""
    network, x = networks(name)
    if fused and when == "before":
        fuse(network)
    model = FullyShardedDataParallel(
        network, auto_wrap_policy=ModuleWrapPolicy({nn.Sequential}), device_id=torch.device("cpu"), **options
    )
    if fused and when == "after":
        fuse(model)
    assert when == "after" or is_fused(model) is fused
    rows = explain(model).to_dict()["rows"]
    outputs = train(network, model, x, rank)
    with FullyShardedDataParallel.summon_full_params(model):
        state = {name: value.clone() for name, value in network.state_dict().items()}
    return {"outputs": outputs, "state": state, "rows": rows}


HALF = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
OLD_HALF = MixedPrecision(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
WHEN = ("before", "after")
CASES: dict[str, Callable[[int], Any]] = {
    **{
        f"{name} {units} {when}": both(functools.partial(sharded, when=when, units=units, name=name))
        for name in ("nested", "sequential")
        for units in UNITS
        for when in WHEN
    },
    **{
        f"bfloat16 {when}": both(functools.partial(sharded, when=when, units="root", name="instances", mp_policy=HALF))
        for when in WHEN
    },
    **{
        f"wrapped, {'original' if original else 'flat'} parameters {when}": both(
            functools.partial(wrapped, when=when, use_orig_params=original)
        )
        for original in (True, False)
        for when in WHEN
    },
    "wrapped, bfloat16": both(
        functools.partial(wrapped, when="before", name="instances", use_orig_params=True, mixed_precision=OLD_HALF)
    ),
}
