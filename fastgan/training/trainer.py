"""Trains any system: the loop. Whatever else a training does is a part of it, in callbacks/ and loggers/."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from fastgan.data import Vectors
from fastgan.data.pictures import draw
from fastgan.messages import log
from fastgan.runs import config
from fastgan.systems import System
from fastgan.training import callbacks as parts
from fastgan.training import process, setup
from fastgan.training.callbacks import Callback, Hooks
from fastgan.training.ema import EMA
from fastgan.training.feed import Feed
from fastgan.training.graph import RECORDERS
from fastgan.training.header import opening, tell_the_end
from fastgan.training.interruption import Interrupted, Interruption, interruption
from fastgan.training.judging import metric_of
from fastgan.training.loggers import JSONL, Console, LogFile, Logger, Loggers, TensorBoard
from fastgan.training.means import Means
from fastgan.training.nonfinite import Check
from fastgan.training.source import check_same, describe
from fastgan.training.state import restore
from fastgan.training.step import Step
from fastgan.training.streams import Repeated, Streams
from fastgan.training.synchronise import synchronise

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastgan.runs.typed import Changes, Given

ONE_VALUE = "value per channel when training"  # that a batch norm wants more of: PyTorch's and FastGAN's say so
IMAGES, POINTS = 64, 1000  # in a picture of samples, where it was not asked for


class Trainer:
    """Trains `system` on `data`, keeping the run in the directory `out`.

        trainer = Trainer("dcgan", "digits", out="runs/digits", width=32)
        trainer.fit(steps=2000)
        Trainer.resume("runs/digits").fit(steps=4000)

    system: one that is made, which is taken as it is; or a name, a class or "FILE.py:CLASS", of which it is made as
        `fastgan train` does: options that are not given follow from the data and the preset, weights from the seed.
    data: what `fastgan.data.Batches` takes, or what `fastgan.data.load` does: the name of a data set, a folder, ...
    callbacks, loggers: what else it does and where else it writes: see `Callback` and `Logger`.
    preset: of a system that is named: "quick" or "paper"; by default quick without a GPU.
    settings: the fields of `Config`, and of a system that is named its options: device ("auto", "cpu", "cuda",
        "cuda:1"), batch_size, ... `init_from` is a run or a file whose weights the networks begin with, as far as they
        fit (fastgan/training/initial.py says which).

    A run killed at any instant and resumed ends in the same bits as one never killed, on the same machine.
    The random numbers of the run are its own: torch's global generators are neither read nor moved, unless a system of
    your own draws from them (`fastgan.random` says how not to). Then they are the run's until `fit` ends, which the log
    says, and as they were afterwards.
    Under torchrun, each process trains on its part of every batch, as one process would on the whole.

    ValueError, TypeError or OSError before anything is written, if the data do not fit the system or the batch, a
    setting is wrong, or `out` is not writable or holds a run already.

    For callbacks: `step` (steps done), `system`, `ema` (the moving average, in the first process), `config`, `run`,
    `ranks`, `batch` (of the last step), `probe` (what previews are made from), `loggers`, and the methods below.
    """

    @overload
    def __init__(
        self,
        system: System,
        data: Any,
        *,
        out: str | os.PathLike[str],
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        **settings: Unpack[Given],
    ) -> None: ...
    @overload
    def __init__(
        self,
        system: str | type[System],
        data: Any,
        *,
        out: str | os.PathLike[str],
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        preset: str | None = None,
        **settings: Any,
    ) -> None: ...
    @overload
    def __init__(
        self, system: setup.Setup, *, callbacks: Sequence[Callback] = (), loggers: Sequence[Logger] = ()
    ) -> None: ...
    def __init__(
        self,
        system: System | str | type[System] | setup.Setup,
        data: Any = None,
        *,
        out: str | os.PathLike[str] = "",
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        preset: str | None = None,
        **settings: Any,
    ) -> None:
        made = system if isinstance(system, setup.Setup) else setup.new(system, data, out, preset, settings)
        self.run, self.config, self.ranks, self.source = made.run, made.config, made.ranks, made.source
        self.system, self.remarks = made.system.to(made.device), made.remarks
        self.command = ""  # that started it, for log.txt
        self.step = 0  # steps done
        asked, system = self.config, self.system
        self._add_parts(callbacks, loggers if self.ranks.first else ())
        synchronise(system, self.ranks)
        self.train_step = Step(
            system,
            precision=asked.precision,
            channels_last=asked.channels_last,
            ranks=self.ranks,
            graph=asked.graph,
            memory=asked.memory,
        )
        self.train_step.after.append(self._after)
        self.train_step.norms = asked.health
        self.ema: EMA | None = None
        self.feed = Feed(self.source, system, asked, self.ranks)
        self.data = describe(self.source, asked.data, self.feed.batches, system)
        system.told_of(self.data)
        count = asked.samples or (POINTS if any(isinstance(f, Vectors) for f in system.inputs().values()) else IMAGES)
        self.probe = system.probe(self.source, count, torch.Generator().manual_seed(asked.seed))
        if made.state is None:
            metric = metric_of(system, asked, self.source, self.probe)
            self.config = dataclasses.replace(asked, metric=metric)
        self.means = Means(self.ranks)  # of the logged values
        self.streams = Streams(system, asked.seed, self.ranks)
        self.interruption = Interruption()  # while it trains: of signals
        self.stopped = ""  # why a callback asked it to
        if made.state is None:
            self.ranks.from_first(self.run.claim)
            return
        check_same(self.source, made.state["data"], self.data, self.run, system)
        restore(self, made.state)

    def _add_parts(self, callbacks: Sequence[Callback], loggers: Sequence[Logger]) -> None:
        own = [JSONL(), LogFile(), Console(), TensorBoard()] if self.ranks.first else []
        self.loggers = Loggers([*own, *loggers])
        self.checkpoints, self.evaluation = parts.Checkpoints(), parts.Evaluation()
        self.callbacks: list[Callback] = [
            *(part for part in (*own, *loggers) if isinstance(part, Callback)),
            *([parts.Health()] if self.config.health else []),
            *callbacks,
            parts.Pace(),
            parts.Previews(),
            self.evaluation,
            parts.EarlyStopping(self.evaluation),
            self.checkpoints,
            parts.NonFiniteValues(),
        ]
        self.hooks = Hooks(self.callbacks)

    @classmethod
    def resume(
        cls,
        out: str | os.PathLike[str],
        *,
        system: System | str | type[System] | None = None,
        data: Any = None,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        **changes: Unpack[Changes],
    ) -> Trainer:
        """The run in `out`, as it was at its last checkpoint.

        system, data: needed only where the run's are not among `fastgan.systems.names()` and what
            `fastgan.data.load` loads; of a system its class or "FILE.py:CLASS".
        callbacks, loggers: as they were given to the trainer that began the run; their state comes back.
        changes: fields of `Config` that shall be others than in the run's config.yaml. What that file and these say
            otherwise than the checkpoint is logged; ValueError for what a run cannot go on with.
        """
        return cls(setup.again(out, system, data, dict(changes)), callbacks=callbacks, loggers=loggers)

    @property
    def finished(self) -> bool:
        """All steps of the run are done, and the last of them was looked at."""
        return self.step == self.config.steps and not self.evaluation.owed

    def stop(self, reason: str) -> None:
        """End the training after this step, with a checkpoint."""
        self.stopped = self.stopped or reason

    def save(self, *, best: bool = False) -> None:
        """Write a checkpoint at the end of this step. `best`: keep it as checkpoint.best.pt, too."""
        self.checkpoints.ask(best=best)

    def evaluate(self) -> None:
        """See at the end of this step whether it is the best so far."""
        self.evaluation.ask()

    def change(self, **options: Any) -> None:
        """Go on with other values of options that the system has as `live`."""
        self.system.change(**options)
        self.train_step.renew()
        self.config = dataclasses.replace(self.config, options=dataclasses.asdict(self.system.config))
        if self.ranks.first:
            config.write(self.run.config, self.config)

    def due(self, every: int) -> bool:
        """Whether this is a step of those that come `every` so many steps; none where that is 0."""
        return every > 0 and self.step % every == 0

    def preview(self) -> Tensor:
        """What the system makes of the run's probe as one picture, uint8 (C, H, W)."""
        with self.aside():
            return draw(self.system.show(self.probe)[0])

    @contextmanager
    def aside(self, *, averaged: bool = True) -> Iterator[None]:
        """For a look at the system: inside the block, what is drawn is as if it had not been, and the system carries
        its moving average. Nothing may train meanwhile."""
        with self.streams.apart(), self.ema.applied() if averaged and self.ema else nullcontext():
            yield

    def fit(self, steps: int | None = None) -> None:
        """Train until `steps` steps are done, counted from the beginning of the run; by default, as many as the run
        was asked for.

        Ctrl-C finishes the running step, saves a checkpoint and raises KeyboardInterrupt; a second one stops at once.
        SIGTERM does the same and raises SystemExit(143). Neither waits for data, or for the end of an evaluation.
        If not even one step could be done, a new run leaves nothing behind.
        FloatingPointError if a value is no longer finite, after `retries` tries; the trainer and its last checkpoint
        are as they were before. OSError if the run cannot be written; its last checkpoint stays as it was.
        RuntimeError if another trainer is at work in the same directory.

        On a CPU the process has no more threads than cores from then on, and keeps its memory or, with memory="small",
        gives it back (`fastgan.training.process`).
        """
        self._aim(self.config.steps if steps is None else steps)
        fresh = self.checkpoints.step < 0
        if fresh and self.ranks.first:
            self.run.samples.mkdir(parents=True, exist_ok=True)
        if self.system.device.type == "cpu":
            process.prepare(self.config.memory)
        alone = self.run.lock() if self.ranks.first else nullcontext()
        with alone, self.streams.active(), interruption(patient=self.ranks.count > 1) as self.interruption:
            self.ranks.from_first(lambda: self.checkpoints.check(self))
            try:
                with self._parts_open():
                    self._train()
            except BaseException as error:
                diverged = isinstance(error, FloatingPointError) and self.checkpoints.step >= 0
                if fresh and not self.step and not diverged:
                    self._abandon()
                if self.ranks.count > 1 and re.search("gloo|nccl", str(error), re.IGNORECASE):
                    raise RuntimeError(
                        f"one of the {self.ranks.count} processes has ended; torchrun --max-restarts=N starts them all "
                        "again, from the last checkpoint"
                    ) from error
                if not isinstance(error, Interrupted):
                    raise
        tell_the_end(self)

    def _aim(self, steps: int) -> None:
        """For so many steps in all, as config.yaml says from then on."""
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if steps < self.step:
            raise ValueError(f"the run in {self.run.path} has done {self.step} steps; steps must be more, not {steps}")
        self.config = dataclasses.replace(self.config, steps=steps)
        self.stopped = ""

    @contextmanager
    def _parts_open(self) -> Iterator[None]:
        """Inside the block the loggers are open and the callbacks have started. When it ends they hear of it, the last
        one first."""
        with ExitStack() as ends:
            ends.callback(self.loggers.close)
            self.loggers.open(self.run, self.step)
            opening(self)
            for callback in self.callbacks:
                callback.on_start(self)
                ends.push(lambda kind, error, trace, callback=callback: callback.on_end(self, error))
            yield

    def _abandon(self) -> None:
        """Nothing is worth keeping: the next attempt finds the directory free."""
        if self.ranks.first:
            self.run.abandon()
        self.checkpoints.forget()

    def _train(self) -> None:
        """The steps that are left, some of them again where a part has put right what went wrong."""
        while True:
            try:
                if self.checkpoints.step < 0:
                    self._begin()
                return self._run_steps()
            except Repeated:
                self.go_back()
                self.streams.share("torch.utils.checkpoint repeats what is drawn from torch's global generators only")
            except Exception as error:
                if not any(on_error(self, error) for on_error in self.hooks.error):
                    raise
            self.loggers.open(self.run, self.step)

    def _run_steps(self) -> None:
        with suppress(Interrupted):
            self.evaluation.make_up(self)
            while self.step < self.config.steps and not self.stopped and not self.interrupted():
                self.advance()
                for problem in self.feed.batches.problems():
                    log.warning("%s", problem)
                if self.due(self.config.log_every):
                    self._log()
                for on_step in self.hooks.step:
                    on_step(self)
        if not self.step:
            raise Interrupted
        self.checkpoints.finish(self)

    def advance(self, check: Check | None = None) -> None:
        """One step. `check` looks at every tensor on the way."""
        self.batch = self.feed.next(self.interruption)
        if self.ema:
            self.ema.begin()
        self.train_step.number = self.step
        with self.streams.step():
            try:
                self.train_step(self.batch, check=check)
            except ValueError as error:
                if ONE_VALUE not in str(error):
                    raise
                raise ValueError(
                    f"{self.system.name} normalises over the batch, and {self.batch.count} image a process has no "
                    f"variance: batch_size must be at least {2 * self.ranks.count}"
                ) from error
        self.step += 1
        self.means.steps += 1

    def _after(self, values: dict[str, Tensor]) -> None:
        """The end of a step, and part of its recording: nothing here may wait, or depend on the host."""
        if self.ema:
            self.ema.update()
        self.means.add(values)

    def _log(self) -> None:
        values = self.means.take(self.step)
        for on_log in self.hooks.log:
            values |= on_log(self, values) or {}
        self.loggers.scalars(self.step, values)

    def interrupted(self) -> int | None:
        """The signal that asked to stop. Several processes, which may have been asked at different steps, agree on it
        when values are logged."""
        if self.ranks.count == 1:
            return self.interruption.signal
        if self.step < self.config.steps and not self.due(self.config.log_every):
            return None
        return next((number for number in self.ranks.gather(self.interruption.signal) if number), None)

    def _begin(self) -> None:
        """What the system learns from the data before the first step, and the first checkpoint."""
        batches = self.feed.again()
        with self.streams.apart(), self.interruption.at_once():
            self.system.begin(islice(batches, math.ceil((batches.count or 10_000) / self.config.batch_size)))
        self.ema = self.average()
        self.checkpoints.save(self)

    def average(self) -> EMA | None:
        """A new moving average, which begins with the weights as they are."""
        if not self.config.ema or not self.ranks.first:
            return None
        return EMA(self.system, self.config.ema, static=self.system.device.type in RECORDERS)

    def go_back(self) -> None:
        """To the last checkpoint."""
        restore(self, self.ranks.from_first(self.run.read))
