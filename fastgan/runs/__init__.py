"""What a run leaves on disk, and who reads it: its configuration, checkpoints, exports and report page."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.runs.load import load
    from fastgan.runs.settings import Config, Settings

_NAMES = {"Config": "runs.settings", "Settings": "runs.settings", "load": "runs.load"}

__all__ = ["Config", "Settings", "load"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'fastgan.runs' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"fastgan.{_NAMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
