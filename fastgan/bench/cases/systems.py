"""A step of every system as it comes, beside the same step on PyTorch's own modules and ops, of the same dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgan import backend
from fastgan.bench import isolation
from fastgan.bench.timing import Row
from fastgan.bench.variants import Suite, Variant
from fastgan.data import Batch, Labels, Texts, Vectors
from fastgan.data.fields import Field
from fastgan.messages import log
from fastgan.options import build, options
from fastgan.systems import create, names
from fastgan.systems.base import System
from fastgan.systems.registry import find
from fastgan.training import process
from fastgan.training.step import Step

DTYPES = ("float32", "bfloat16")
BATCH = 64
OF = {
    "pix2pix": 8,
    "cyclegan": 4,
    "pairedcyclegan": 4,
    "srgan": 8,
    "context-encoder": 32,
    "colorization": 8,
}  # of systems with other batches
# At 32x32 pixels, where no others are said; the residual networks and those with many layers at widths of which a step
# takes about a second.
OPTIONS: dict[str, dict[str, Any]] = {
    "lsgan": {"latent": 128},
    "wgan": {"discriminator_steps": 2},
    "wgan-gp": {"width": 32, "discriminator_steps": 1},
    "sngan": {"width": 64, "discriminator_width": 64, "discriminator_steps": 1},
    "began": {"width": 32},
    "pix2pix": {"resolution": 64, "width": 32},
    "cyclegan": {"resolution": 64, "width": 32, "blocks": 3},
    "colorization": {"resolution": 64, "width": 32, "pretraining": 0},
    "pairedcyclegan": {"resolution": 64, "width": 32, "blocks": 3, "known": "target"},
    "simgan": {"pretraining": 0, "discriminator_pretraining": 0, "history": 1600, "width": 32},
    "srgan": {"resolution": 64, "blocks": 8, "discriminator_width": 32, "pretrain": 0},
    "context-encoder": {"resolution": 64, "width": 32, "bottleneck": 512},
}


def options_of(name: str) -> dict[str, Any]:
    known = {each.name for each in options(find(name).Config)}
    return {key: value for key, value in {"resolution": 32, "channels": 3}.items() if key in known} | OPTIONS.get(
        name, {}
    )


def batch_for(system: System, rows: int, seed: int = 0) -> Batch:
    """Random values of what it trains on, the same at every call."""
    random = torch.Generator().manual_seed(seed)

    def values(field: Field) -> Tensor:
        if isinstance(field, Labels):
            return torch.arange(rows) % len(field.names)
        if isinstance(field, Texts):
            return torch.randint(4, len(field.words), (rows, field.length), generator=random)
        if isinstance(field, Vectors):
            return torch.rand((rows, field.size), generator=random) * 2 - 1
        pixels = torch.rand((rows, field.channels, field.height, field.width), generator=random) * 2 - 1
        return pixels.contiguous(memory_format=torch.channels_last)

    given = {name: values(field) for name, field in system.inputs().items()}
    if classes := getattr(system.config, "classes", 0):  # of systems that look at few labels, too
        given["label"] = torch.arange(rows) % classes
    return Batch(**given)


def eager(name: str, dtype: str, batch: int | None = None) -> Callable[[], list[float]]:
    """One step on PyTorch's own modules and ops."""
    kind = find(name)
    losses = _step(lambda **options: kind(build(kind.Config, options, name)), name, dtype, batch)

    def eagerly() -> list[float]:
        with backend.using("torch"):
            return losses()

    return eagerly


def ours(name: str, dtype: str, batch: int | None = None) -> Callable[[], list[float]]:
    return _step(partial(create, name), name, dtype, batch)


def _step(make: Callable[..., System], name: str, dtype: str, batch: int | None) -> Callable[[], list[float]]:
    """One step as a call without arguments, which gives the losses. Systems of one name have the same weights."""
    torch.manual_seed(0)
    system = make(**options_of(name))
    given = batch_for(system, (batch or OF.get(name, BATCH)) * system.batches)
    system.begin(batch_for(system, 500) for _ in range(1))
    process.prepare()
    step = Step(system, precision=dtype)

    def losses() -> list[float]:
        values: dict[str, Tensor] = step(given)
        return [value.item() for key, value in values.items() if key.endswith("/loss")]

    return losses


SUITE = Suite(__name__, [Variant("eager", eager), Variant("fastgan", ours, "ours")])


def measure(only: Sequence[str] = (), dtypes: Sequence[str] = DTYPES, rounds: int = 7) -> list[Row]:
    """A case a system and dtype; no speed where the losses of the first step are not alike."""
    for name in only:
        find(name)  # says what is wrong with it
    result: list[Row] = []
    for name in only or names():
        for dtype in dtypes:
            log.info("%s, %s", name, dtype)
            check(name, dtype)
            ready = isolation.ready(SUITE, list(SUITE), (name, dtype))
            batch, side = OF.get(name, BATCH), options_of(name)["resolution"]
            facts = {"system": name, "batch": batch, "dtype": dtype}
            title = f"{name} {side}x{side} step, batch {batch}, {dtype}"
            result += ready.rows(title, facts, batch, rounds, memory=False)
    return result


def check(name: str, dtype: str, batch: int = 8) -> None:
    """Failed where the losses of the first step differ."""
    losses = []
    for variant in SUITE:
        call = variant.make(name, dtype, batch)
        torch.manual_seed(1)
        losses.append(call())
    isolation.agree(losses[1], losses[0], 1e-3 if dtype == "float32" else 0.05)
