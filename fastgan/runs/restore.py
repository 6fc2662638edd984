"""The system that a checkpoint was made of."""

from __future__ import annotations

from typing import Any

import torch

from fastgan.options import former, nearest
from fastgan.random import private
from fastgan.runs.config import Config, make
from fastgan.runs.run import Run
from fastgan.systems import System, create, names
from fastgan.systems.registry import find


def config_of(state: dict[str, Any], run: Run) -> Config:
    """What the run was asked for when the checkpoint was written."""
    return make(state["config"], str(run.checkpoint))


def known(name: str, kind: str | type[System] | None, owner: str) -> str | type[System]:
    """What `create` makes the system of: `kind` where it is given, else the name that `owner`, a run or a file, has.

    ValueError for a system of the user's that is not given: no file runs because a checkpoint names it.
    """
    if kind is not None:
        return find(kind)
    if name not in names():
        raise ValueError(
            f"no system {name!r}{nearest(name, names())}, by which {owner} was made. Systems: {', '.join(names())}; of "
            "one of yours say where it is, as --system my.py:MyGAN (in Python: system=MyGAN)"
        )
    return name


def remade(name: str, options: dict[str, Any], kind: str | type[System] | None, owner: str) -> System:
    """The system with the options that `owner`, a run or a file, has of it. `kind`: as `known` takes it."""
    cls = find(known(name, kind, owner))
    return create(cls, **former(cls.Config, options))


def system_of(state: dict[str, Any], config: Config, kind: str | type[System] | None = None) -> System:
    """A new system of that configuration, in the dtype of the checkpoint's weights. `kind`: as `known` takes it."""
    with private():  # weights that are replaced by those of the checkpoint
        system = remade(config.system, config.options, kind, "the run")
    double = any(getattr(value, "dtype", None) is torch.float64 for value in state["system"].values())
    return system.double() if double else system
