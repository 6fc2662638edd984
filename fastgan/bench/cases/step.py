"""Whole training steps: the DCGAN-64 step of FastGAN beside the same step in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import fastgan
from fastgan.bench import isolation
from fastgan.bench.cases.peers import CapturedStep, DCGANStep
from fastgan.bench.timing import WARM, Row, WrongResult
from fastgan.data import Batch
from fastgan.systems import create
from fastgan.training import process
from fastgan.training.step import Step

# torch.compile's other modes, behind --compile-all: each takes minutes to compile.
MODES = ("reduce-overhead", "max-autotune")
# Peers by name; the first is what ratios refer to. "compile" peers take a minute each to compile on two cores.
PEERS: dict[str, dict[str, Any]] = {
    "official, float32 contiguous": {},
    "eager, float32 channels_last": {"channels_last": True},
    "eager, bfloat16 channels_last": {"channels_last": True, "bfloat16": True},
    "compile, float32 channels_last": {"channels_last": True, "transform": torch.compile},
    "compile, bfloat16 channels_last": {"channels_last": True, "bfloat16": True, "transform": torch.compile},
    "eager + fastgan.fuse, float32 channels_last": {"channels_last": True, "transform": fastgan.fuse},
    "eager + fastgan.fuse, bfloat16 channels_last": {
        "channels_last": True,
        "bfloat16": True,
        "transform": fastgan.fuse,
    },
}
for _mode in MODES:
    for _dtype in ("float32", "bfloat16"):
        PEERS[f"compile {_mode}, {_dtype} channels_last"] = {
            "channels_last": True,
            "bfloat16": _dtype == "bfloat16",
            "transform": partial(torch.compile, mode=_mode),
        }
OURS: dict[str, dict[str, Any]] = {
    "fastgan, float32": {"precision": "float32"},
    "fastgan, defaults": {"precision": "auto"},
}
# On CUDA too: the defaults record the step as a graph, as these peers do by hand.
ON_CUDA: dict[str, dict[str, Any]] = {
    "CUDA graph by hand, float32 channels_last": {"channels_last": True},
    "CUDA graph by hand, bfloat16 channels_last": {"channels_last": True, "bfloat16": True},
}
OURS_ON_CUDA: dict[str, dict[str, Any]] = {"fastgan, defaults, no graph": {"precision": "auto", "graph": False}}

# Multiply-adds of an image counted twice: G forward and backward once, D forward three times, backward of weights
# twice and of inputs thrice but for the first layer's in D's phase.
GFLOP_AN_IMAGE = 2.275


def images(batch: int, channels_last: bool = True, device: str = "cpu") -> Tensor:
    """Random images in [-1, 1], the same at every call."""
    pixels = torch.rand((batch, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return pixels.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format).to(device)


def check(batch: int = 8, steps: int = 2, device: str = "cpu") -> None:
    """FastGAN's step and the fused networks give the losses of the official step, from the same weights and noise, in
    their layout: Adam makes of the sign of a gradient that is zero but for rounding a step of full size, so that
    PyTorch's own losses differ by 1 % between two layouts on some processors.

    On CUDA for more steps, so that the recorded ones are among them; there PyTorch's convolutions in float32 round
    their factors to TF32, each kernel where it likes.
    """
    steps, tolerance = (steps + WARM, 3e-2) if device == "cuda" else (steps, 1e-3)
    plain = DCGANStep(device=device)
    last = DCGANStep(transform=_channels_last, device=device)
    fused = DCGANStep(transform=fastgan.fuse, device=device)
    step = _ours({"precision": "float32"}, plain, device)
    for number in range(steps):
        torch.manual_seed(number)
        official = plain(images(batch, False, device))
        torch.manual_seed(number)
        official_last = last(images(batch, True, device))
        torch.manual_seed(number)
        values = step(_batch(batch, device))
        torch.manual_seed(number)
        mine = values["discriminator/loss"].item(), values["generator/loss"].item()
        for name, (d, g), expected in (
            ("the DCGAN step", mine, official_last),
            ("the fused official step", fused(images(batch, False, device)), official),
        ):
            if any(abs(a - b) > tolerance * abs(b) for a, b in zip((d, g), expected)):
                raise WrongResult(f"step {number}: losses of {name} {d:.6f}, {g:.6f}; the official step has {expected}")


def _channels_last(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _batch(batch: int, device: str) -> Any:
    return Batch(image=images(batch, True, device))


def _ours(how: dict[str, Any], weights_of: DCGANStep | None = None, device: str = "cpu") -> Step:
    torch.manual_seed(0)
    system = create("dcgan").to(device)
    if weights_of is not None:
        for name, theirs in zip(("generator", "discriminator"), weights_of.plain_networks):
            for mine, given in zip(_layers(system.get_submodule(name)), _layers(theirs)):
                mine.load_state_dict(given.state_dict())
    if device == "cpu":
        process.prepare(how.get("memory", "fast"))
    return Step(system, **how)


def _layers(network: nn.Module) -> list[nn.Module]:
    """Convolutions and normalisations, in order."""
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) or hasattr(m, "running_var")]


def names(compiled: str = "default", device: str = "cpu") -> list[str]:
    """`compiled`: "none" of the torch.compile peers, those of its "default" mode, or "all" modes."""

    def wanted(name: str) -> bool:
        if not name.startswith("compile"):
            return True
        return compiled == "all" or (compiled == "default" and name.startswith("compile,"))

    known = (*PEERS, *ON_CUDA, *OURS, *OURS_ON_CUDA) if device == "cuda" else (*PEERS, *OURS)
    return [name for name in known if wanted(name)]


def variant(name: str, batch: int, device: str = "cpu") -> Callable[[], Any]:
    """One step of a variant, as a call without arguments."""
    if how := {**OURS, **OURS_ON_CUDA}.get(name):
        return partial(_ours(how, device=device), _batch(batch, device))
    if name in ON_CUDA:
        given = images(batch, True, device)
        return partial(CapturedStep(given, **ON_CUDA[name]), given)
    how = PEERS[name]
    step, given = DCGANStep(**how, device=device), images(batch, how.get("channels_last", False), device)
    if device == "cuda" and name.startswith("compile"):

        def call() -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # its graphs may reuse what the step before returned
            return step(given)

        return call
    return partial(step, given)


def measure(
    batch: int = 64,
    rounds: int = 9,
    compiled: str = "default",
    limit: float = 600.0,
    memory: bool = False,
    device: str = "cpu",
) -> list[Row]:
    """The check, then every variant in turn. On CUDA with the kernels and host synchronisations of a step."""
    check(device=device)
    variants = {name: (name, batch, device) for name in names(compiled, device)}
    peers = {name: f"eager, {name.partition(', ')[2]}" for name in variants if name.startswith("compile")}
    ready = isolation.ready("fastgan.bench.cases.step:variant", variants, peers, limit, device)
    facts = {"batch": batch, "GFLOP": round(GFLOP_AN_IMAGE * batch, 1)}
    return ready.rows(f"DCGAN 64x64 step, batch {batch}", facts, batch, rounds, memory)
