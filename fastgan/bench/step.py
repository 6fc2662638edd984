"""Whole training steps: the DCGAN-64 step of FastGAN beside the same step in plain PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import fastgan
from fastgan.bench import apart
from fastgan.bench.peers import DCGANStep
from fastgan.bench.timing import Row, WrongResult
from fastgan.data import Batch
from fastgan.systems import create
from fastgan.training.step import Step

log = logging.getLogger("fastgan")

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
OURS = {"fastgan, float32": "float32", "fastgan, defaults": "auto"}

# Multiply-adds of an image counted twice: G forward and backward once, D forward three times, backward of weights
# twice and of inputs thrice but for the first layer's in D's phase.
GFLOP_AN_IMAGE = 2.275


def images(batch: int, channels_last: bool = True) -> Tensor:
    """Random images in [-1, 1], the same at every call."""
    pixels = torch.rand((batch, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return pixels.contiguous(memory_format=torch.channels_last) if channels_last else pixels


def check(batch: int = 8, steps: int = 2) -> None:
    """FastGAN's step and the fused networks give the losses of the official step, from the same weights and noise."""
    plain = DCGANStep()
    fused = DCGANStep(transform=fastgan.fuse)
    step = _ours("float32", plain)
    for number in range(steps):
        torch.manual_seed(number)
        expected = plain(images(batch, False))
        torch.manual_seed(number)
        values = step(Batch(images(batch), None))
        torch.manual_seed(number)
        for name, (d, g) in {
            "the DCGAN step": (values["discriminator/loss"].item(), values["generator/loss"].item()),
            "the fused official step": fused(images(batch, False)),
        }.items():
            if abs(d - expected[0]) > 1e-3 * abs(expected[0]) or abs(g - expected[1]) > 1e-3 * abs(expected[1]):
                raise WrongResult(f"step {number}: losses of {name} {d:.6f}, {g:.6f}; the official step has {expected}")


def _ours(precision: str, weights_of: DCGANStep | None = None) -> Step:
    torch.manual_seed(0)
    system = create("dcgan")
    if weights_of is not None:
        for name, theirs in zip(("generator", "discriminator"), weights_of.plain_networks):
            for mine, given in zip(_layers(system.get_submodule(name)), _layers(theirs)):
                mine.load_state_dict(given.state_dict())
    return Step(system, precision=precision)


def _layers(network: nn.Module) -> list[nn.Module]:
    """Convolutions and normalisations, in order."""
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) or hasattr(m, "running_var")]


def names(compiled: str = "default") -> list[str]:
    """`compiled`: "none" of the torch.compile peers, those of its "default" mode, or "all" modes."""

    def wanted(name: str) -> bool:
        if not name.startswith("compile"):
            return True
        return compiled == "all" or (compiled == "default" and name.startswith("compile,"))

    return [name for name in (*PEERS, *OURS) if wanted(name)]


def variant(name: str, batch: int) -> Callable[[], Any]:
    """One step of a variant, as a call without arguments."""
    if name in OURS:
        return partial(_ours(OURS[name]), Batch(images(batch), None))
    how = PEERS[name]
    return partial(DCGANStep(**how), images(batch, how.get("channels_last", False)))


def measure(
    batch: int = 64, rounds: int = 9, compiled: str = "default", limit: float = 600.0, memory: bool = False
) -> list[Row]:
    """The check, then every variant in turn."""
    check()
    variants = {name: (name, batch) for name in names(compiled)}
    peers = {name: f"eager, {name.partition(', ')[2]}" for name in variants if name.startswith("compile")}
    ready = apart.ready("fastgan.bench.step:variant", variants, peers, limit)
    facts = {"batch": batch, "GFLOP": round(GFLOP_AN_IMAGE * batch, 1)}
    return ready.rows(f"DCGAN 64x64 step, batch {batch}", facts, batch, rounds, memory)
