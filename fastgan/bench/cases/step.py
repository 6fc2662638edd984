"""Whole training steps: the DCGAN-64 step of FastGAN beside the same step in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import fastgan
from fastgan.bench import isolation
from fastgan.bench.cases.peers import CapturedStep, DCGANStep
from fastgan.bench.timing import WARM, Row, WrongResult
from fastgan.bench.variants import Suite, Variant
from fastgan.data import Batch
from fastgan.systems import create
from fastgan.training import process
from fastgan.training.step import Step

# torch.compile's other modes, behind --compile-all: each takes minutes to compile.
MODES = ("reduce-overhead", "max-autotune")
LAST = "channels_last"

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


def chosen(compiled: str = "default", device: str = "cpu") -> list[Variant]:
    """`compiled`: "none" of the torch.compile peers, those of its "default" mode, or "all" modes."""
    return [
        variant
        for variant in SUITE
        if variant.device in ("", device)
        and (variant.role != "compiled" or compiled == "all" or (compiled == "default" and not variant.slow))
    ]


def _peer(**how: Any) -> Callable[..., Callable[[], Any]]:
    """The official step of stock modules, its networks transformed."""

    def make(batch: int, device: str = "cpu") -> Callable[[], Any]:
        return partial(DCGANStep(**how, device=device), images(batch, how.get("channels_last", False), device))

    return make


def _compiled(mode: str | None, **how: Any) -> Callable[..., Callable[[], Any]]:
    def make(batch: int, device: str = "cpu") -> Callable[[], Any]:
        step = _peer(**how, transform=partial(torch.compile, mode=mode))(batch, device)
        if device != "cuda":
            return step

        def call() -> Any:
            torch.compiler.cudagraph_mark_step_begin()  # its graphs may reuse what the step before returned
            return step()

        return call

    return make


def _captured(**how: Any) -> Callable[..., Callable[[], Any]]:
    def make(batch: int, device: str = "cuda") -> Callable[[], Any]:
        given = images(batch, True, device)
        return partial(CapturedStep(given, **how), given)

    return make


def _fastgan(**how: Any) -> Callable[..., Callable[[], Any]]:
    def make(batch: int, device: str = "cpu") -> Callable[[], Any]:
        return partial(_ours(how, device=device), _batch(batch, device))

    return make


def _variants() -> Iterator[Variant]:
    """In the order of tables; the first is what ratios refer to."""
    last: dict[str, Any] = {"channels_last": True}
    hows = {"float32": last, "bfloat16": {**last, "bfloat16": True}}

    def compiled(mode: str | None) -> Iterator[Variant]:
        title = f"compile {mode}" if mode else "compile"
        for dtype, how in hows.items():
            yield Variant(
                f"{title}, {dtype} channels_last", _compiled(mode, **how), "compiled",
                f"eager, {dtype} channels_last", dtype, layout=LAST, slow=mode is not None,
            )  # fmt: skip

    yield Variant("official, float32 contiguous", _peer(), dtype="float32", layout="contiguous")
    for dtype, how in hows.items():
        yield Variant(f"eager, {dtype} channels_last", _peer(**how), dtype=dtype, layout=LAST)
    yield from compiled(None)
    for dtype, how in hows.items():
        make = _peer(**how, transform=fastgan.fuse)
        yield Variant(f"eager + fastgan.fuse, {dtype} channels_last", make, "ours", dtype=dtype, layout=LAST)
    for mode in MODES:
        yield from compiled(mode)
    for dtype, how in hows.items():  # the defaults record the step as a graph, as these do by hand
        make = _captured(**how)
        yield Variant(f"CUDA graph by hand, {dtype} channels_last", make, dtype=dtype, layout=LAST, device="cuda")
    yield Variant("fastgan, float32", _fastgan(precision="float32"), "ours", dtype="float32", layout=LAST)
    yield Variant("fastgan, defaults", _fastgan(precision="auto"), "ours", dtype="auto", layout=LAST)
    make = _fastgan(precision="auto", graph=False)
    yield Variant("fastgan, defaults, no graph", make, "ours", dtype="auto", layout=LAST, device="cuda")


SUITE = Suite(__name__, _variants())


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
    ready = isolation.ready(SUITE, chosen(compiled, device), (batch, device), limit, device)
    facts = {"batch": batch, "GFLOP": round(GFLOP_AN_IMAGE * batch, 1)}
    return ready.rows(f"DCGAN 64x64 step, batch {batch}", facts, batch, rounds, memory)
