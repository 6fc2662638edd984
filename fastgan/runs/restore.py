"""The system that a checkpoint was made of."""

from __future__ import annotations

from typing import Any

import torch

from fastgan.random import private
from fastgan.runs.config import Config, make
from fastgan.runs.run import Run
from fastgan.systems import System, create


def config_of(state: dict[str, Any], run: Run) -> Config:
    """What the run was asked for when the checkpoint was written."""
    return make(state["config"], str(run.checkpoint))


def system_of(state: dict[str, Any], config: Config) -> System:
    """A new system of that configuration, in the dtype of the checkpoint's weights."""
    with private():  # weights that are replaced by those of the checkpoint
        system = create(config.system, **config.options)
    double = any(getattr(value, "dtype", None) is torch.float64 for value in state["system"].values())
    return system.double() if double else system


def name_classes(system: System, known: dict[str, Any]) -> None:
    """Give the system the names of its classes, where the data that it was trained on have told them."""
    names = known.get("classes") or ()
    system.class_names = tuple(names) if len(names) == system.classes else ()
