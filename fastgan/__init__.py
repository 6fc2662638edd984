"""FastGAN trains generative adversarial networks faster, on the hardware people have, without changing the mathematics.

    model = fastgan.fuse(model)             the same PyTorch model on fused ops
    fastgan.explain(model)                  what was fused, what was not, and why
    fastgan.Trainer(fastgan.systems.create("dcgan"), "emoji", out="runs/emoji").fit(steps=2000)
    fastgan.load("runs/emoji").sample(64)   what it has learned

Importing this package imports nothing else: everything below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan import backend, data, latent, losses, metrics, networks, nn, ops, random, systems, training
    from fastgan.autotune import tune
    from fastgan.fusion import fuse, unfuse
    from fastgan.fusion.explain import explain
    from fastgan.fusion.paired import paired
    from fastgan.recomputation import recompute
    from fastgan.runs import load
    from fastgan.systems import Phase
    from fastgan.training import GraphedStep, Trainer

__version__ = "0.1.0"

_MODULES = ("backend", "data", "latent", "losses", "metrics", "networks", "nn", "ops", "random", "systems", "training")
_NAMES = {
    "GraphedStep": "fastgan.training",
    "Phase": "fastgan.systems",
    "Trainer": "fastgan.training",
    "explain": "fastgan.fusion",
    "fuse": "fastgan.fusion",
    "load": "fastgan.runs",
    "paired": "fastgan.fusion.paired",
    "recompute": "fastgan.recomputation",
    "tune": "fastgan.autotune",
    "unfuse": "fastgan.fusion",
}

__all__ = [
    "GraphedStep",
    "Phase",
    "Trainer",
    "backend",
    "data",
    "explain",
    "fuse",
    "latent",
    "load",
    "losses",
    "metrics",
    "networks",
    "nn",
    "ops",
    "paired",
    "random",
    "recompute",
    "systems",
    "training",
    "tune",
    "unfuse",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fastgan.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastgan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
