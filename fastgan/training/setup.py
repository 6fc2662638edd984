"""What a training is made of, before it begins: the system, the data, the run and what was asked for."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch

from fastgan import backend
from fastgan.data.registry import absolute
from fastgan.distributed import Ranks, join, own_device
from fastgan.runs import config
from fastgan.runs.config import Config
from fastgan.runs.making import make, parted
from fastgan.runs.restore import config_of, system_of
from fastgan.runs.run import Run, choose_device, versions
from fastgan.systems import System, names
from fastgan.systems.registry import find
from fastgan.training.initial import start_from
from fastgan.training.source import load_data, name_of


@dataclasses.dataclass
class Setup:
    system: System
    source: Any
    run: Run
    config: Config
    ranks: Ranks
    device: torch.device
    state: dict[str, Any] | None = None  # of the checkpoint that it goes on from
    remarks: list[str] = dataclasses.field(default_factory=list)  # to be said when the training starts


def new(
    system: System | str | type[System],
    data: Any,
    out: str | os.PathLike[str],
    preset: str | None,
    asked: dict[str, Any],
) -> Setup:
    """Of a new run.   asked: fields of `Config`, and options of a system that is named. Errors as of `Trainer`."""
    remarks: list[str] = []
    if isinstance(system, str | type):
        system, data, asked, remarks = make(system, data, *parted(system, asked), preset)
    elif preset is not None:
        raise ValueError(f"a preset makes a system of a name, not of one that is made: leave out preset={preset!r}")
    if not isinstance(system, System):
        raise TypeError(
            "system must be a fastgan System, as create('dcgan') makes, its class or its name, not "
            f"{type(system).__name__}"
        )
    if (start := asked.get("init_from")) is not None:
        asked = {**asked, "init_from": os.fspath(start)}
    own = {"system": system.name, "options": dataclasses.asdict(system.config), "data": name_of(data)}
    made = config.make({**asked, **own}, "the trainer")
    if start := made.init_from:
        made = dataclasses.replace(made, init_from=os.path.abspath(start))
        remarks += start_from(system, start)
    source = load_data(data, system, white=made.white)
    ranks = join(made.device)
    return Setup(system, source, Run(out), made, ranks, _place(made, ranks), remarks=remarks)


def again(
    out: str | os.PathLike[str], system: System | str | type[System] | None, data: Any, changes: dict[str, Any]
) -> Setup:
    """Of a run that goes on from its last checkpoint, with `changes` of its `Config`. Errors as `Trainer.resume`."""
    run = Run(out)
    kind: type[System] | None = None
    if isinstance(system, System):
        kind = type(system)
    elif isinstance(system, str) and system in names():
        changes["system"], system = system, None
    elif system is not None:
        kind, system = find(system), None
    if isinstance(data, str | os.PathLike):
        changes["data"], data = absolute(os.fspath(data)), None
    ranks = join(changes.get("device", "auto"))
    state = ranks.from_first(run.read)
    before = config_of(state, run)
    asked = config.make({**run.asked(before).plain(), **changes}, str(run.config))
    own = None if kind is None else kind.Config
    before, asked = config.complete(before, own), config.complete(asked, own)
    changed = config.changes(before, asked, own)
    if system is None:
        system = system_of(state, asked, kind)
    asked = dataclasses.replace(asked, data=absolute(asked.data))
    source = load_data(asked.data if data is None else data, system, state["data"], white=asked.white)
    remarks = []
    if changed:
        remarks.append(f"{out} goes on with {'; '.join(changed.values())}")
    if state["versions"] != versions():
        remarks.append(f"{out} was trained by {state['versions']}; this is {versions()}")
    return Setup(system, source, run, asked, ranks, _place(asked, ranks), state, remarks)


def _place(asked: Config, ranks: Ranks) -> torch.device:
    backend.wanted()  # a mistake in FASTGAN_BACKEND shows here, before anything is written
    if asked.batch_size % ranks.count:
        raise ValueError(
            f"batch_size must be a multiple of the {ranks.count} processes that share it, not {asked.batch_size}"
        )
    return choose_device(own_device(asked.device))
