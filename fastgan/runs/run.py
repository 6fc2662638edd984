"""The directory of a run: what lies where, and what may be done with it.

config.yaml         everything the run was asked for
checkpoint.pt       everything training needs to go on (checkpoint.previous.pt: the one before; checkpoint.best.pt)
data.json           what is known of the data: number, classes, what was left out
data.txt.gz         of a folder, its pictures
metrics.jsonl       one line of logged values every `log_every` steps
log.txt             what the run said
real.png            pictures of the data as the network sees them
samples/            step-000200.png, ...: grids from the same latents
training.gif        these grids one after the other
tensorboard/        the same values and grids
"""

from __future__ import annotations

import os
import platform
import shlex
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import torch

from fastgan.runs import checkpoint
from fastgan.runs.config import Config, make, read
from fastgan.systems import System

LEFT = ("log.txt", "training.gif", "real.png")  # what else may be left of a run
CHECKPOINTS = ("last", "best", "previous")
_WRITTEN = (
    "config.yaml", "checkpoint*.pt", "data.json", "data.txt.gz", "metrics.jsonl", *LEFT, "samples/*.png",
    "tensorboard/events.out.*", ".lock",
)  # fmt: skip
_STATE: dict[str, Any] = {
    "config": dict,
    "data": dict,
    "versions": dict,
    "step": int,
    "system": dict,
    "ema": dict | None,
    "optimizers": dict,
    "batches": dict,
    "random": dict,
    "ranks": list,
    "probe": dict,
    "logged": dict,
    "callbacks": dict,
}


class Run:
    def __init__(self, out: str | os.PathLike[str]) -> None:
        if not os.fspath(out):
            raise ValueError("the directory of the run has no name: give one, such as runs/digits")
        self.path = Path(out)
        self.config = self.path / "config.yaml"
        self.checkpoint = self.path / "checkpoint.pt"
        self.data = self.path / "data.json"
        self.listing = self.path / "data.txt.gz"
        self.metrics = self.path / "metrics.jsonl"
        self.real = self.path / "real.png"
        self.samples = self.path / "samples"
        self.tensorboard = self.path / "tensorboard"

    def note(self, level: str, text: str) -> None:
        """A line of log.txt, while no trainer has it open. Not worth an error."""
        now = datetime.now()
        with suppress(OSError), open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(f"{now:%Y-%m-%d %H:%M:%S},{now.microsecond // 1000:03d} {level:7} {text}\n")

    @property
    def saved(self) -> bool:
        """Whether it has a checkpoint."""
        return self.checkpoint.exists() or checkpoint.previous(self.checkpoint).exists()

    def claim(self) -> None:
        """Make the directory for a new run. Raises, with nothing changed, if it holds a run or cannot be written."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file; a run needs a directory of its own")
        if self.saved:
            raise FileExistsError(
                f"{self.path} already holds a run; continue it with `fastgan train --resume {quoted(self.path)}` "
                "(in Python: Trainer.resume), or choose another directory"
            )
        if others := self._others():
            raise FileExistsError(
                f"{self.path} holds other files, such as {others[0]}: a run needs a directory of its own, which is new "
                "or empty"
            )
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise PermissionError(
                f"cannot write to {self.path} ({error.strerror}); choose another directory"
            ) from error

    def _others(self) -> list[str]:
        """What lies there, and is not left of a run that stopped before its first checkpoint."""
        try:
            names = sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        own = {path.name for path in (self.config, self.data, self.listing, self.metrics, self.tensorboard)}
        pictures = [] if not self.samples.is_dir() else sorted(file.name for file in self.samples.iterdir())
        foreign = [f"samples/{name}" for name in pictures if not _drawn(name)]
        return [name for name in names if name not in {*own, *LEFT, self.samples.name}] + foreign

    def abandon(self) -> None:
        """Delete what a run that came to nothing has written, so that the next one finds the directory free. Whatever
        else lies there stays."""
        for pattern in _WRITTEN:
            for file in self.path.glob(pattern):
                with suppress(OSError):
                    file.unlink()
        for directory in (self.samples, self.tensorboard, self.path):
            with suppress(OSError):  # it is not there, or not empty
                directory.rmdir()

    def read(self, which: str = "last") -> dict[str, Any]:
        """The state in a checkpoint: "last", "best" or "previous".

        FileNotFoundError where there is no run or no such checkpoint, ValueError if it cannot be used.
        """
        if which not in CHECKPOINTS:
            raise ValueError(f"no checkpoint {which!r}; choose one of {', '.join(CHECKPOINTS)}")
        if self.path.is_file() and Run(self.path.parent).saved:
            kind = next((kind for kind in CHECKPOINTS[1:] if f".{kind}." in self.path.name), None)
            raise ValueError(
                f"{self.path} is a file; a run is its directory: {self.path.parent}"
                + (f" (and --checkpoint {kind}; in Python, which={kind!r})" if kind else "")
            )
        if not self.saved:
            if self.config.exists():
                raise FileNotFoundError(
                    f"the run in {self.path} stopped before its first checkpoint; start it again as before, or: "
                    f"fastgan train --config {quoted(self.config)} --out {quoted(self.path)}"
                )
            raise FileNotFoundError(f"{self.path} holds no run (there is no {self.checkpoint})")
        path = self.checkpoint if which == "last" else getattr(checkpoint, which)(self.checkpoint)
        if which == "best" and not path.exists():
            raise FileNotFoundError(
                f"the run in {self.path} has no best checkpoint yet: its samples are compared with the data every "
                "`evaluate_every` steps"
            )
        state = _of_now(checkpoint.load(path))
        wrong = [name for name, kind in _STATE.items() if not isinstance(state.get(name, ...), kind)]
        if wrong:
            raise ValueError(f"{path} is not the checkpoint of a run: it has no {', '.join(wrong)} as a run's has")
        return state

    def asked(self, otherwise: Config | None = None) -> Config:
        """What config.yaml says; `otherwise` where it is missing. Errors as `config.read`."""
        if otherwise is not None and not self.config.exists():
            return otherwise
        return make(read(self.config), str(self.config))

    def restore(self, system: System, state: dict[str, Any]) -> None:
        """Give the system the weights of a checkpoint. ValueError if they are not of this system."""
        try:
            system.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the networks in {self.checkpoint} are not those of {system.name} with these options; was it made by "
                "another version of the system?"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Inside the block no other trainer works in this directory. RuntimeError where one does already."""
        file = self.path / ".lock"
        owner = ""
        with suppress(OSError):
            owner = file.read_text()
        lock = filelock.FileLock(file)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RuntimeError(
                f"another trainer is at work in {self.path}{owner and f' ({owner})'}: wait for its end, or choose "
                "another directory"
            ) from None
        except NotImplementedError:  # a file system without locks
            yield
            return
        try:
            with suppress(OSError):
                file.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            yield
        finally:
            lock.release()


def _of_now(state: dict[str, Any]) -> dict[str, Any]:
    """The state in a checkpoint of format 2, as one of format 3 has it: that of callbacks in one place, latents as the
    probe, nothing that differs by process."""
    if state["format"] == 2:
        best, owed, watch, latents = (state.pop(name, None) for name in ("best", "owed", "watch", "latents"))
        state["callbacks"] = {
            "evaluation": {"best": best, "owed": owed is True},
            **({"health": watch} if watch else {}),
        }
        state["probe"] = {"latent": latents}
        state["ranks"] = [{}]
    return state


def quoted(path: str | os.PathLike[str]) -> str:
    """A path as part of a command."""
    return shlex.quote(os.fspath(path))


def _drawn(name: str) -> bool:
    """Whether a picture is called like those that a run draws."""
    return name.startswith(("step-", "."))


def versions() -> dict[str, str]:
    from fastgan import __version__

    return {"fastgan": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def choose_device(name: str) -> torch.device:
    """A device by name; "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"no device {name!r}; use auto, cpu, cuda, cuda:N or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"no device {name!r}; use auto, cpu, cuda, cuda:N or mps")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"no device 'mps': torch {torch.__version__} has or finds no Apple GPU here; use cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no device {name!r}: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs")
    return device
