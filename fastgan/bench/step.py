"""Whole training steps: the DCGAN-64 step of FastGAN beside the same step in plain PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import fastgan
from fastgan.bench.peers import DCGANStep
from fastgan.bench.timing import Row, WrongResult, interleaved, rows
from fastgan.data import Batch
from fastgan.systems import create
from fastgan.training.step import Step

log = logging.getLogger("fastgan")

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


def names(compiled: bool = True) -> list[str]:
    return [name for name in (*PEERS, *OURS) if compiled or not name.startswith("compile")]


def variant(name: str, batch: int) -> Callable[[], Any]:
    """One step of a variant, as a call without arguments."""
    if name in OURS:
        return partial(_ours(OURS[name]), Batch(images(batch), None))
    how = PEERS[name]
    return partial(DCGANStep(**how), images(batch, how.get("channels_last", False)))


def measure(batch: int = 64, rounds: int = 9, compiled: bool = True) -> list[Row]:
    """The check, then every variant in turn."""
    check()
    calls = {name: variant(name, batch) for name in names(compiled)}
    if compiled:
        log.info("compiling the torch.compile peers: a minute or two")
    facts = {"batch": batch, "GFLOP": round(GFLOP_AN_IMAGE * batch, 1)}
    return rows(f"DCGAN 64x64 step, batch {batch}", interleaved(calls, rounds=rounds), facts, images=batch)
