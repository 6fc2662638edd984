"""The trainer and its parts.

Each is imported when it is first used: a step needs torch alone, a run needs what reads pictures and writes files too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.training.callbacks import Callback
    from fastgan.training.loggers import Logger
    from fastgan.training.step import GraphedStep, Step
    from fastgan.training.trainer import Trainer

_NAMES = {
    "Callback": "callbacks",
    "GraphedStep": "step",
    "Logger": "loggers",
    "Step": "step",
    "Trainer": "trainer",
}

__all__ = ["Callback", "GraphedStep", "Logger", "Step", "Trainer"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'fastgan.training' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"fastgan.training.{_NAMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
