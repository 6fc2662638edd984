"""A trained system, out of whatever file or directory holds it."""

from __future__ import annotations

import os
from pathlib import Path

from fastgan.runs.export import read_export
from fastgan.runs.restore import config_of, name_classes, system_of
from fastgan.runs.run import Run, choose_device
from fastgan.systems import System


def load(path: str | os.PathLike[str], *, averaged: bool = True, which: str = "last", device: str = "auto") -> System:
    """A trained system in eval mode, to sample from: `fastgan.load("runs/digits").sample(64)`.

    path: the directory of a run, or a .safetensors file that `fastgan export` made of one.
    averaged: generators carry their moving average, where the run kept one.   which: "last", "best" or "previous".

    FileNotFoundError where there is none, ValueError if it is damaged.
    """
    if Path(path).suffix in (".pt2", ".onnx"):
        raise ValueError(f"{path} makes images without FastGAN, which loads runs and .safetensors files of them")
    if Path(path).suffix == ".safetensors":
        return read_export(path).to(choose_device(device))
    run = Run(path)
    state = run.read(which)
    system = system_of(state, config_of(state, run))
    averages = state["ema"]["averages"] if averaged and state["ema"] is not None else {}
    run.restore(system, {**state["system"], **averages})
    name_classes(system, state["data"])
    return system.to(choose_device(device)).eval()
