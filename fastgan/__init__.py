"""FastGAN trains generative adversarial networks faster, on the hardware people have, without changing the mathematics.

    model = fastgan.fuse(model)             the same PyTorch model on fused ops
    fastgan.explain(model)                  what was fused, what was not, and why
    fastgan.Trainer(fastgan.systems.create("dcgan"), "digits", out="runs/digits").fit(steps=2000)

Importing this package imports nothing else: everything below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan import backend, data, losses, nn, ops, systems, training
    from fastgan.fusion import fuse, unfuse
    from fastgan.fusion.explain import explain
    from fastgan.training import Trainer

__version__ = "0.1.0"

_MODULES = ("backend", "data", "losses", "nn", "ops", "systems", "training")
_NAMES = {
    "Trainer": "fastgan.training",
    "explain": "fastgan.fusion",
    "fuse": "fastgan.fusion",
    "unfuse": "fastgan.fusion",
}

__all__ = [
    "Trainer",
    "backend",
    "data",
    "explain",
    "fuse",
    "losses",
    "nn",
    "ops",
    "systems",
    "training",
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
