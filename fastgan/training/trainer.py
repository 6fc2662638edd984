"""Trains any system: steps, checkpoints, samples, logs. It knows nothing of a particular GAN."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import signal
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from fastgan import backend
from fastgan import data as datasets
from fastgan.data import Batches, ImageData
from fastgan.systems import System, create
from fastgan.systems.config import build
from fastgan.training import checkpoint
from fastgan.training.ema import EMA
from fastgan.training.interruption import interruption
from fastgan.training.report import Report, picture
from fastgan.training.run import Run, choose_device, versions
from fastgan.training.step import Step

log = logging.getLogger("fastgan")


@dataclasses.dataclass(frozen=True)
class Settings:
    batch_size: int = 64  # images
    seed: int = 0  # of latents and of the order of images
    workers: int = 0  # processes that read data which are not in memory
    precision: str = "auto"  # auto, float32, bfloat16: see Step
    channels_last: bool = True
    flip: bool = False  # mirror half of the images, left to right
    ema: float = 0.999  # decay of the generator's moving average a step; 0 keeps none
    samples: int = 64  # images in a grid
    sample_every: int = 200  # steps; 0 draws only the last
    checkpoint_every: int = 200  # steps; 0 saves only the first and the last
    log_every: int = 20  # steps; what is logged is the mean over them

    def __post_init__(self) -> None:
        for least, names in (1, ("batch_size", "samples", "log_every")), (0, ("sample_every", "checkpoint_every")):
            for name in names:
                if getattr(self, name) < least:
                    raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in 0..2**63 - 1, not {self.seed}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), not {self.ema}")


class Trainer:
    """Trains `system` on `data`, keeping the run in the directory `out`.

        trainer = Trainer(create("dcgan", resolution=32, channels=1), "digits", out="runs/digits")
        trainer.fit(steps=2000)
        Trainer.resume("runs/digits").fit(steps=4000)

    data: what `fastgan.data.Batches` takes, or the name of a data set, brought to the system's size and channels.
    device: "auto", "cpu", "cuda", "cuda:1", ...   settings: the fields of `Settings`.

    A run killed at any instant and resumed ends in the same bits as one never killed, on the same machine.
    The random streams of the run are its own: torch's global generators are left as they were.

    ValueError, TypeError or OSError before anything is written, if the data do not fit the system or the batch, a
    setting is wrong, or `out` is not writable or holds a run already.
    """

    def __init__(
        self,
        system: System,
        data: Any,
        *,
        out: str | os.PathLike[str],
        device: str = "auto",
        **settings: Any,
    ) -> None:
        self._prepare(system, data, Run(out), build(Settings, settings, "the trainer"), device)
        self.run.claim()

    @classmethod
    def resume(
        cls,
        out: str | os.PathLike[str],
        *,
        system: System | None = None,
        data: Any = None,
        device: str = "auto",
    ) -> Trainer:
        """The run in `out`, as it was at its last checkpoint.

        system, data: needed only where the run's are not among `fastgan.systems.names()` and `fastgan.data.names()`.
        """
        run = Run(out)
        record = run.read()
        state = checkpoint.load(run.checkpoint)
        if system is None:
            with torch.random.fork_rng([]):
                system = create(record["system"]["name"], **record["system"]["config"])
        if data is None:
            data = _load_data(record["data"])
        trainer = cls.__new__(cls)
        trainer._prepare(system, data, run, build(Settings, record["settings"], str(run.record)), device)
        if trainer.data != record["data"]:
            raise ValueError(f"the run in {out} was trained on other data: {record['data']}, not {trainer.data}")
        trainer._restore(state)
        trainer.steps = record["steps"]
        if record.get("versions") != versions():
            log.info("%s was trained by %s; this is %s", out, record.get("versions"), versions())
        return trainer

    def _prepare(self, system: System, data: Any, run: Run, settings: Settings, device: str) -> None:
        if not isinstance(system, System):
            raise TypeError(f"system must be a fastgan System, as create('dcgan') makes, not {type(system).__name__}")
        backend.wanted()  # a mistake in FASTGAN_BACKEND shows here, before anything is written
        if isinstance(data, str):
            channels, height, _ = system.image_shape
            data = datasets.load(data, height, channels)
        self.run = run
        self.settings = settings
        self.step = 0  # steps done
        self.steps = 0  # steps wanted by the last fit
        self.system = system.to(choose_device(device))
        self.train_step = Step(system, precision=settings.precision, channels_last=settings.channels_last)
        self.ema = EMA(system, settings.ema) if settings.ema else None
        self.batches = Batches(
            data,
            settings.batch_size,
            seed=settings.seed,
            device=system.device,
            channels_last=settings.channels_last,
            flip=settings.flip,
            workers=settings.workers,
        )
        self.data = self._describe(data)
        self.latents = system.latent(settings.samples, torch.Generator().manual_seed(settings.seed))
        self._names: list[str] = []  # of the logged values, and
        self._sums: Tensor | None = None  # their sums since they were last read, and
        self._summed = 0  # over how many steps
        self._saved = -1  # step of the last checkpoint
        with self._generators():
            # Not `seed` itself: the caller may have drawn the initial weights from that stream.
            torch.manual_seed(settings.seed + 1)
            self._random = self._random_state()

    def fit(self, steps: int) -> None:
        """Train until `steps` steps are done, counted from the beginning of the run.

        Ctrl-C finishes the running step, saves a checkpoint and raises KeyboardInterrupt; a second one stops at once.
        SIGTERM does the same and raises SystemExit(143).
        FloatingPointError if a logged value is no longer finite; the last checkpoint is from before.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if steps < self.step:
            raise ValueError(f"the run in {self.run.path} has done {self.step} steps; steps must be more, not {steps}")
        self.steps = steps
        every = self.settings
        self.run.write(self._record())
        report = Report(self.run, step=self.step, steps=steps, batch_size=every.batch_size)
        with self._generators(), interruption() as asked, report:
            self._set_random(self._random)
            if self._saved < 0:
                self._save()
            while self.step < steps and asked.signal is None:
                self._advance()
                report.advance()
                if self._due(every.log_every):
                    report.values(self.step, self._read())
                if self._due(every.sample_every) or self.step == steps:
                    self._means()  # of a run that has diverged, say so instead of drawing it
                    report.picture(self.step, self.preview())
                if self._due(every.checkpoint_every):
                    self._save()
            if self._saved != self.step:
                self._save()
            self._random = self._random_state()
        if self.step < steps:
            log.warning("stopped at step %d; to go on: fastgan train --resume %s", self.step, self.run.path)
            if asked.signal == signal.SIGTERM:
                raise SystemExit(128 + signal.SIGTERM)
            raise KeyboardInterrupt

    def preview(self) -> Tensor:
        """Samples from the run's fixed latents as one picture, uint8 (C, H, W)."""
        with self._generators(), self.ema.applied() if self.ema else nullcontext():
            return picture(self.system.sample(len(self.latents), latent=self.latents))

    def _save(self) -> None:
        self._means()  # a run that has diverged keeps its last good checkpoint
        state = {
            "step": self.step,
            "system": self.system.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "optimizers": {phase.name: phase.optimizer.state_dict() for phase in self.train_step.phases},
            "batches": self.batches.state_dict(),
            "random": self._random_state(),
            "latents": self.latents,
            "logged": {"names": self._names, "sums": self._sums, "steps": self._summed},
        }
        checkpoint.save(self.run.checkpoint, state)
        self._saved = self.step

    def _restore(self, state: dict[str, Any]) -> None:
        self.run.restore(self.system, state["system"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        for phase in self.train_step.phases:
            phase.optimizer.load_state_dict(state["optimizers"][phase.name])
        self.batches.load_state_dict(state["batches"])
        self.latents = state["latents"].to(self.system.device)
        self._names, self._summed = state["logged"]["names"], state["logged"]["steps"]
        self._sums = None if state["logged"]["sums"] is None else state["logged"]["sums"].to(self.system.device)
        self._random = state["random"]
        self.step = self._saved = state["step"]

    def _advance(self) -> None:
        values = self.train_step(next(self.batches))
        if self.ema:
            self.ema.update()
        self.step += 1
        stacked = torch.stack(list(values.values()))
        self._names = list(values)
        self._sums = stacked if self._sums is None else self._sums + stacked
        self._summed += 1

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _means(self) -> dict[str, float]:
        """Means of the logged values since they were last read: here the host waits for the device.

        FloatingPointError if one is not finite.
        """
        if self._sums is None:
            return {}
        means = dict(zip(self._names, (self._sums / self._summed).tolist()))
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"{name} became {mean} in the {self._summed} steps before step {self.step}; the checkpoint of step "
                    f"{self._saved} in {self.run.path} is from before. Try a lower learning rate or precision float32"
                )
        return means

    def _read(self) -> dict[str, float]:
        means = self._means()
        self._sums, self._summed = None, 0
        return means

    def _record(self) -> dict[str, Any]:
        return {
            "system": {"name": self.system.name, "config": dataclasses.asdict(self.system.config)},
            "data": self.data,
            "settings": dataclasses.asdict(self.settings),
            "steps": self.steps,
            "device": str(self.system.device),
        }

    def _describe(self, data: Any) -> dict[str, Any]:
        """What run.json says of the data. ValueError if the system cannot train on them."""
        start = self.batches.state_dict()
        channels, height, width = next(self.batches).images.shape[1:]
        self.batches.load_state_dict(start)
        name = getattr(data, "name", type(data).__name__)
        expected = self.system.image_shape
        if channels != expected[0]:
            raise ValueError(
                f"{self.system.name} makes images of {expected[0]} channels, {name} has {channels}: create the system "
                f"with channels={channels}, or use data.with_channels({expected[0]})"
            )
        if (height, width) != expected[1:]:
            raise ValueError(
                f"{self.system.name} makes images of {expected[1]}x{expected[2]} pixels, {name} has {height}x{width}: "
                f"create the system with another resolution, or use data.resize({expected[1]})"
            )
        return {"name": name, "images": self.batches.count, "channels": channels, "resolution": height}

    def _generators(self) -> Any:
        """Inside this context the global generators are the run's; afterwards they are the caller's again."""
        return torch.random.fork_rng([self.system.device] if self.system.device.type == "cuda" else [])

    def _random_state(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self.system.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.system.device)
        return state

    def _set_random(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if self.system.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.system.device)


def _load_data(description: dict[str, Any]) -> ImageData:
    name = description["name"]
    if name not in datasets.names():
        raise ValueError(f"the run was trained on {name!r}, which has no loader: give it to Trainer.resume as data=")
    return datasets.load(name, description["resolution"], description["channels"])
