"""The directory of a run: what lies where, and what may be done with it.

run.json            system, data and settings, versions of what trained it
checkpoint.pt       everything training needs to go on (checkpoint.previous.pt: the one before)
metrics.jsonl       one line of logged values every `log_every` steps
samples/            step-000200.png, ...: grids from the same latents
tensorboard/        the same values and grids
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import torch

from fastgan.systems import System, create
from fastgan.training import checkpoint

_RECORD: tuple[tuple[tuple[str, ...], type, str], ...] = (
    (("system", "name"), str, "text"),
    (("system", "config"), dict, "an object"),
    (("data", "name"), str, "text"),
    (("data", "resolution"), int, "a whole number"),
    (("data", "channels"), int, "a whole number"),
    (("settings",), dict, "an object"),
    (("steps",), int, "a whole number"),
)


class Run:
    def __init__(self, out: str | os.PathLike[str]) -> None:
        if not os.fspath(out):
            raise ValueError("the directory of the run has no name: give one, such as runs/digits")
        self.path = Path(out)
        self.record = self.path / "run.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples"
        self.tensorboard = self.path / "tensorboard"

    def claim(self) -> None:
        """Make the directory for a new run. Raises, with nothing changed, if it holds a run or cannot be written."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file; a run needs a directory of its own")
        if self.checkpoint.exists() or checkpoint.previous(self.checkpoint).exists():
            raise FileExistsError(
                f"{self.path} already holds a run; continue it with `fastgan train --resume {self.path}` "
                "(in Python: Trainer.resume), or choose another directory"
            )
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise PermissionError(
                f"cannot write to {self.path} ({error.strerror}); choose another directory"
            ) from error

    def read(self) -> dict[str, Any]:
        """What run.json says. FileNotFoundError where there is no run, ValueError if it cannot be read."""
        saved = self.checkpoint.exists() or checkpoint.previous(self.checkpoint).exists()
        if not self.record.exists():
            if saved:
                raise FileNotFoundError(f"{self.record}, which describes the checkpoint beside it, is missing")
            raise FileNotFoundError(f"{self.path} holds no run (there is no {self.record})")
        if not saved:
            raise FileNotFoundError(f"the run in {self.path} stopped before its first checkpoint; start it again")
        try:
            record = json.loads(self.record.read_text())
        except ValueError as error:
            raise ValueError(f"{self.record} is damaged: {error}") from error
        for keys, kind, what in _RECORD:
            value = record
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            if not isinstance(value, kind):
                raise ValueError(f"{self.record} is damaged: {'.'.join(keys)} must be {what}, not {value!r}")
        return record

    def restore(self, system: System, state: dict[str, Any]) -> None:
        """Give the system the weights of the checkpoint. ValueError if they are not of the system in run.json."""
        try:
            system.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(
                f"the networks in {self.checkpoint} are not those that {self.record} describes; was one of them edited "
                "or copied from another run?"
            ) from error

    def write(self, record: dict[str, Any]) -> None:
        text = json.dumps({**record, "versions": versions()}, indent=2)
        temporary = self.record.with_name(".run.json.tmp")
        temporary.write_text(text + "\n")
        os.replace(temporary, self.record)


def versions() -> dict[str, str]:
    from fastgan import __version__

    return {"fastgan": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def load(out: str | os.PathLike[str], *, averaged: bool = True, device: str = "auto") -> System:
    """The trained system of a run, in eval mode, to sample from.

    averaged: generators carry their moving average, where the run kept one. Errors as `Run.read` and
    `checkpoint.load`.
    """
    run = Run(out)
    record = run.read()
    system = create(record["system"]["name"], **record["system"]["config"])
    state = checkpoint.load(run.checkpoint)
    averages = state["ema"]["averages"] if averaged and state["ema"] is not None else {}
    run.restore(system, {**state["system"], **averages})
    return system.to(choose_device(device)).eval()


def choose_device(name: str) -> torch.device:
    """A device by name; "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"no device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name!r}: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs")
    return device
