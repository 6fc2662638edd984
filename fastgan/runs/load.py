"""A trained system, out of whatever file or directory holds it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastgan.runs.export import read_export
from fastgan.runs.restore import config_of, system_of
from fastgan.runs.run import Run, choose_device
from fastgan.systems import System


def load(
    path: str | os.PathLike[str],
    *,
    averaged: bool = True,
    which: str = "last",
    device: str = "auto",
    system: str | type[System] | None = None,
) -> Any:
    """A trained system in eval mode: `fastgan.load("runs/digits").sample(64)`, or of one that translates
    `.translate(images)`.

    path: the directory of a run, or a .safetensors file that `fastgan export` made of one.
    averaged: generators carry their moving average, where the run kept one.   which: "last", "best" or "previous".
    system: the class of a system of yours, or "my.py:MyGAN"; not needed for those of `fastgan.systems.names()`.

    FileNotFoundError where there is none, ValueError if it is damaged.
    """
    if Path(path).suffix in (".pt2", ".onnx"):
        raise ValueError(f"{path} makes images without FastGAN, which loads runs and .safetensors files of them")
    if Path(path).suffix == ".safetensors":
        return read_export(path, system).to(choose_device(device))
    run = Run(path)
    state = run.read(which)
    made = system_of(state, config_of(state, run), system)
    averages = state["ema"]["averages"] if averaged and state["ema"] is not None else {}
    run.restore(made, {**state["system"], **averages})
    made.told_of(state["data"])
    return made.to(choose_device(device)).eval()
