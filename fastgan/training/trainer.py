"""Trains any system: steps, checkpoints, samples, logs. It knows nothing of a particular GAN."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import signal
import time
from contextlib import nullcontext, suppress
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from fastgan import backend
from fastgan.data import Batch, Batches, ImageData, Points
from fastgan.data.panel import by_class
from fastgan.data.registry import absolute
from fastgan.distributed import Ranks, join
from fastgan.messages import log
from fastgan.options import build
from fastgan.runs import checkpoint, config
from fastgan.runs.config import Config, Settings
from fastgan.runs.restore import config_of, system_of
from fastgan.runs.run import Run, choose_device, quoted, versions
from fastgan.systems import System
from fastgan.systems.adversarial import AdversarialSystem
from fastgan.systems.base import evaluating
from fastgan.training import process
from fastgan.training.ema import EMA
from fastgan.training.evaluation import Evaluation
from fastgan.training.graph import RECORDERS
from fastgan.training.header import few, header
from fastgan.training.health import Symptom, Watch, diversity, remedy
from fastgan.training.initial import start_from
from fastgan.training.interruption import Interrupted, Interruption, interruption
from fastgan.training.means import Means
from fastgan.training.nonfinite import Check, Finding, NonFinite, below, not_finite
from fastgan.training.report import Report, picture
from fastgan.training.source import check_same, describe, load_data, name_of, record
from fastgan.training.staging import Staging
from fastgan.training.step import Step, load_optimizer
from fastgan.training.streams import Repeated, Streams
from fastgan.training.synchronise import synchronise

ONE_VALUE = "Expected more than 1 value per channel"  # of PyTorch's batch norm
EARLY = (10, 25, 50, 100)  # steps after which samples are drawn where `sample_every` is longer
IMAGES, POINTS = 64, 1000  # in a picture of samples, where it was not asked for


class Trainer:
    """Trains `system` on `data`, keeping the run in the directory `out`.

        trainer = Trainer(create("dcgan", resolution=32, channels=1), "digits", out="runs/digits")
        trainer.fit(steps=2000)
        Trainer.resume("runs/digits").fit(steps=4000)

    data: what `fastgan.data.Batches` takes, or what `fastgan.data.load` does: the name of a data set, a folder, ...
    device: "auto", "cpu", "cuda", "cuda:1", ...
    init_from: a run, or a file of weights, whose weights the networks begin with, as far as they fit (`start_from` in
        fastgan/training/initial.py says which). The optimizers and the average begin anew.
    settings: the fields of `Settings`.

    A run killed at any instant and resumed ends in the same bits as one never killed, on the same machine.
    The random numbers of the run are its own: torch's global generators are neither read nor moved, unless a system of
    your own draws from them (`fastgan.random` says how not to). Then they are the run's until `fit` ends, which the log
    says, and as they were afterwards.
    Under torchrun, each process trains on its part of every batch, as one process would on the whole.

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
        init_from: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        if not isinstance(system, System):
            raise TypeError(f"system must be a fastgan System, as create('dcgan') makes, not {type(system).__name__}")
        asked = Config(
            system=system.name,
            options=dataclasses.asdict(system.config),
            data=name_of(data),
            device=device,
            steps=0,
            init_from=None if init_from is None else os.path.abspath(init_from),
            **dataclasses.asdict(build(Settings, settings, "the trainer")),
        )
        taken = [] if init_from is None else start_from(system, init_from)
        self._prepare(system, load_data(data, system, white=asked.white), Run(out), asked)
        self.remarks += taken
        self.ranks.from_first(self.run.claim)

    @classmethod
    def resume(
        cls, out: str | os.PathLike[str], *, system: System | str | None = None, data: Any = None, **changes: Any
    ) -> Trainer:
        """The run in `out`, as it was at its last checkpoint.

        system, data: needed only where the run's are not among `fastgan.systems.names()` and what
            `fastgan.data.load` loads.
        changes: fields of `Config` that shall be others than in the run's config.yaml. What that file and these say
            otherwise than the checkpoint is logged; ValueError for what a run cannot go on with.
        """
        run = Run(out)
        if isinstance(system, str):
            changes["system"], system = system, None
        if isinstance(data, str | os.PathLike):
            changes["data"], data = absolute(os.fspath(data)), None
        ranks, _ = join(changes.get("device", "auto"))
        state = ranks.from_first(run.read)
        before = config_of(state, run)
        asked = config.make({**run.asked(before).plain(), **changes}, str(run.config))
        before, asked = config.complete(before), config.complete(asked)
        changed = config.changes(before, asked)
        if system is None:
            system = system_of(state, asked)
        asked = dataclasses.replace(asked, data=absolute(asked.data))
        trainer = cls.__new__(cls)
        trainer._prepare(
            system,
            load_data(asked.data if data is None else data, system, state["data"], white=asked.white),
            run,
            asked,
        )
        check_same(trainer.source, state["data"], trainer.data, run, system)
        if changed:
            trainer.remarks.append(f"{out} goes on with {'; '.join(changed.values())}")
        if state["versions"] != versions():
            trainer.remarks.append(f"{out} was trained by {state['versions']}; this is {versions()}")
        try:
            trainer._restore(state)
        except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{run.checkpoint} does not hold what this run needs ({error!r})") from error
        return trainer

    def _prepare(self, system: System, data: Any, run: Run, asked: Config) -> None:
        backend.wanted()  # a mistake in FASTGAN_BACKEND shows here, before anything is written
        self.ranks, device = join(asked.device)
        if asked.batch_size % self.ranks.count:
            raise ValueError(
                f"batch_size {asked.batch_size} must be a multiple of the {self.ranks.count} processes that share it"
            )
        self.source = data
        self.run = run
        self.config = asked
        self.remarks: list[str] = []  # to be said when the training starts
        self.command = ""  # that started it, for log.txt
        self.step = 0  # steps done
        self.system = system.to(choose_device(device))
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
        self.ema = self._average()
        self._staging = Staging(system.device) if system.device.type == "cuda" else None
        self.batches = self._batches(asked.workers)
        self.data = describe(self.source, self.config.data, self.batches, system)
        system.told_of(self.data)
        samples = asked.samples or (POINTS if system.image_shape[1:] == (1, 1) else IMAGES)
        self.latents = system.latent(samples, torch.Generator().manual_seed(asked.seed))
        self._means = Means(self.ranks)  # of the logged values
        self._waited = 0.0, time.perf_counter()  # seconds waited for data, since when
        self._filling = False  # whether pictures were put into memory meanwhile
        self._saved = -1  # step of the last checkpoint
        self._identity: bytes | None = None  # of its file
        self._owed = False  # a look at the samples of this step, which was interrupted
        self._asking = Interruption()  # while it trains: of signals
        self._tries = 0  # to get past the last checkpoint
        self._watch = Watch() if asked.health else None
        self._told_alone = False  # that the watch cannot compare samples
        self.train_step.norms = self._watch is not None
        self._streams = Streams(system, asked.seed, self.ranks)
        self._evaluation = Evaluation(
            system, self.source, lambda: self._batches(0, alone=True), self.batches.count, asked
        )

    @property
    def finished(self) -> bool:
        """All steps of the run are done, and the last of them was looked at."""
        return self.step == self.config.steps and not self._owed

    def fit(self, steps: int | None = None) -> None:
        """Train until `steps` steps are done, counted from the beginning of the run; by default, until as many are as
        the run was asked for before.

        Ctrl-C finishes the running step, saves a checkpoint and raises KeyboardInterrupt; a second one stops at once.
        SIGTERM does the same and raises SystemExit(143). Neither waits for data, or for the end of an evaluation.
        If not even one step could be done, a new run leaves nothing behind.
        FloatingPointError if a value is no longer finite, after `retries` tries; the trainer and its last checkpoint
        are as they were before. OSError if the run cannot be written; its last checkpoint stays as it was.
        RuntimeError if another trainer is at work in the same directory.

        On a CPU the process has no more threads than cores from then on, and keeps its memory or, with memory="small",
        gives it back (`fastgan.training.process`).
        """
        if steps is None:
            steps = self.config.steps
            if not steps:
                raise TypeError("fit takes the number of steps, as fit(steps=2000)")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if steps < self.step:
            raise ValueError(f"the run in {self.run.path} has done {self.step} steps; steps must be more, not {steps}")
        self.aim(steps)
        self._said = False
        fresh = self._saved < 0
        if fresh and self.ranks.first:
            self.run.samples.mkdir(parents=True, exist_ok=True)
        if self.system.device.type == "cpu":
            process.prepare(self.config.memory)
        alone = self.run.lock() if self.ranks.first else nullcontext()
        with alone, self._streams.active(), interruption(patient=self.ranks.count > 1) as self._asking:
            self.ranks.from_first(self._check_run)
            try:
                while not self._fitted():
                    pass
            except BaseException as error:
                diverged = isinstance(error, FloatingPointError) and self._saved >= 0
                if fresh and not self.step and not diverged:
                    self._abandon()
                if self.ranks.count > 1 and re.search("gloo|nccl", str(error), re.IGNORECASE):
                    raise RuntimeError(
                        f"one of the {self.ranks.count} processes has ended; torchrun --max-restarts=N starts them all "
                        "again, from the last checkpoint"
                    ) from error
                if not isinstance(error, Interrupted):
                    raise
        if self._patience_is_over():
            if self.ranks.first:
                self._say(f"stopped early at step {self.step}: {self._evaluation.verdict()}")
        elif not self.finished:
            if self.ranks.first and self._saved >= 0:
                self._say(f"stopped at step {self.step}; to go on: fastgan train --resume {quoted(self.run.path)}")
            elif self.ranks.first:
                log.warning("stopped before the first step: nothing is kept")
            if self._asked() == signal.SIGTERM:
                raise SystemExit(128 + signal.SIGTERM)
            raise KeyboardInterrupt

    def _say(self, text: str) -> None:
        """A warning at the end, when the report is closed."""
        log.warning("%s", text)
        self.run.note("WARNING", text)

    def aim(self, steps: int) -> None:
        """How many steps the run shall have in the end, as its config.yaml says."""
        self.config = dataclasses.replace(self.config, steps=steps)

    def preview(self) -> Tensor:
        """Samples from the run's fixed latents as one picture, uint8 (C, H, W)."""
        with self._streams.apart(), self._averaged():
            count, columns = by_class(len(self.latents), self.system.classes)
            return picture(self.system.sample(count, latent=self.latents[:count]), self.source, columns)

    def _seen(self) -> Tensor:
        """The images of the last step as the discriminator saw them, flipped and augmented, as one picture."""
        images = self._real[: len(self.latents)].float()
        if isinstance(self.system, AdversarialSystem):
            with self._streams.apart(), torch.no_grad():
                images = self.system.augment(images)
        return picture(images)

    def _abandon(self) -> None:
        """Nothing is worth keeping: the next attempt finds the directory free."""
        if self.ranks.first:
            self.run.abandon()
        self._saved, self._identity = -1, None

    def _fitted(self) -> bool:
        """Train to the end, or until asked to stop. False if a value was not finite, and the run is back at its last
        checkpoint to try again."""
        report = Report(
            self.run,
            step=self.step,
            steps=self.config.steps,
            batch_size=self.config.batch_size,
            advice=self._advice(),
            quiet=not self.ranks.first,
        )
        try:
            with report:
                self._tell(report)
                if self._saved < 0:
                    self._begin()
                    self._save()
                self._train(report)
        except NonFinite as error:
            self._go_back(error)
            return False
        except Repeated:
            self._restore(self.ranks.from_first(self.run.read))
            self._streams.share("torch.utils.checkpoint repeats what is drawn from torch's global generators only")
            return False
        return True

    def _tell(self, report: Report) -> None:
        """What a training says first, once a `fit`."""
        said, self._said = self._said, True
        if said or not self.ranks.first:
            return
        made_by, *lines = header(self.system, self.config, self.data, self.train_step.autocast_dtype, self.ranks.count)
        report.note(f"{self.command or 'Trainer.fit'} ({made_by})")
        steps = f"{self.config.steps:,} steps" if not self.step else f"steps {self.step + 1:,} to {self.config.steps:,}"
        lines.append(f"{steps} in batches of {self.config.batch_size}; the run is in {self.run.path}")
        if not self.step and self.config.health:
            lines.append(few(self.system, self.data["images"]))
        for line in [*lines, *self.remarks]:
            if line:
                log.info("%s", line)
        for problem in [*self.batches.problems(), backend.no_kernels()]:
            if problem:
                log.warning("%s", problem)
        self.remarks.clear()

    def _begin(self) -> None:
        """What the system learns from the data before the first step."""
        batches = self._batches(0, alone=True)
        with self._streams.apart(), self._asking.at_once():
            self.system.begin(islice(batches, math.ceil((batches.count or 10_000) / self.config.batch_size)))
        self.ema = self._average()

    def _train(self, report: Report) -> None:
        with suppress(Interrupted):
            if self._owed and self.config.evaluate_every and self._evaluate(report):
                self._save(best=True)
            self._run_steps(report)
        if not self.step:
            raise Interrupted
        if self._saved != self.step or self._owed:
            self._save()

    def _run_steps(self, report: Report) -> None:
        every, first = self.config, self.step
        while self.step < every.steps and not self._patience_is_over() and not self._asked():
            self._advance()
            report.advance()
            if self.step == first + 1 and self.ranks.first and not self.run.real.exists():
                report.real(self._seen())
            for problem in self.batches.problems():
                log.warning("%s", problem)
            if self._due(every.log_every):
                report.values(self.step, self._look(self._means.take(self.step)), *self._waiting())
            if self._due(every.sample_every) or self.step == every.steps or self._early():
                self._means.read(self.step)  # of a run that has diverged, say so instead of drawing it
                if self.ranks.first:
                    report.picture(self.step, self.preview())
            better = self._due(every.evaluate_every) and self._evaluate(report)
            if better or self._due(every.checkpoint_every):
                self._save(best=better)

    def _asked(self) -> int | None:
        """The signal that asked to stop. Several processes, which may have been asked at different steps, agree on it
        when values are logged."""
        if self.ranks.count > 1 and self.step < self.config.steps and not self._due(self.config.log_every):
            return None
        return next((number for number in self.ranks.gather(self._asking.signal) if number), None)

    def _advance(self, check: Check | None = None) -> None:
        began = time.perf_counter()
        place = self.batches.state_dict()
        self._filling |= self.batches.filling
        try:
            with self._asking.at_once():
                batch = self._staging.put(self._next) if self._staging else self._next()
        except Interrupted:
            self.batches.load_state_dict(place)
            raise
        waited, since = self._waited
        if not isinstance(self.source, Tensor | ImageData | Points):  # else there is nothing to wait for
            self._waited = waited + time.perf_counter() - began, since
        if self.system.dtype == torch.float64:
            batch = batch.map(lambda values: values.double() if values.is_floating_point() else values)
        self._real = batch.image
        if self.ema:
            self.ema.begin()
        self.train_step.number = self.step
        with self._streams.step():
            try:
                self.train_step(batch, check=check)
            except ValueError as error:
                if ONE_VALUE not in str(error):
                    raise
                raise ValueError(
                    f"{self.system.name} normalises over the batch, and {len(batch.image)} image a process has no "
                    f"variance: batch_size must be at least {2 * self.ranks.count}"
                ) from error
        self.step += 1
        self._means.steps += 1

    def _next(self) -> Batch:
        """The images of a step: as many batches as the system takes, put together."""
        return Batch.cat([next(self.batches) for _ in range(self.system.batches)])

    def _after(self, values: dict[str, Tensor]) -> None:
        """The end of a step, and part of its recording: nothing here may wait, or depend on the host."""
        if self.ema:
            self.ema.update()
        self._means.add(values)

    def _average(self) -> EMA | None:
        if not self.config.ema or not self.ranks.first:
            return None
        return EMA(self.system, self.config.ema, static=self.system.device.type in RECORDERS)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _early(self) -> bool:
        """Whether it is one of the first samples, which tell soon that something is learned."""
        return self.step in EARLY and self.step < self.config.sample_every

    def _look(self, values: dict[str, float]) -> dict[str, float]:
        """What is logged: the means, and how much samples differ. Says what looks wrong with them."""
        if not self._watch:
            return values
        symptoms: list[Symptom] = []
        if self.ranks.first:
            with self._streams.apart():
                fake = self.system.sample(len(self.latents), latent=self.latents)
            found = diversity(self._real, fake)
            if not found and not self._told_alone:
                self._told_alone = True
                log.warning(
                    "health: of a batch or a picture of one image nobody sees whether samples are all alike: give "
                    "samples and batch_size of at least 2"
                )
            values = {**values, **{f"diversity/{name}": value.item() for name, value in found.items()}}
            symptoms = self._watch.look(self.step, values)
        for symptom in self.ranks.from_first(lambda: symptoms):
            if self.ranks.first:
                log.warning("%s", symptom)
            if self.config.remedy == "auto":
                self._apply(symptom)
        return values

    def _apply(self, symptom: Symptom) -> None:
        option = remedy(symptom, self.system)
        text = ", ".join(f"{name}={value}" for name, value in option.items())
        if self.ranks.first:
            log.warning(
                "remedy from step %d on: %s", self.step, text or "none is left that a running training can take"
            )
        if not option:
            return
        assert isinstance(self.system, AdversarialSystem)
        self.system.change(**option)
        self.train_step.renew()
        self.config = dataclasses.replace(self.config, options=dataclasses.asdict(self.system.config))
        if self.ranks.first:
            config.write(self.run.config, self.config)

    def _waiting(self) -> tuple[float, bool]:
        """The share of the time since the last call that was spent waiting for data; and whether that was for pictures
        that are in memory from then on."""
        waited, since = self._waited
        now = time.perf_counter()
        self._waited = 0.0, now
        filling, self._filling = self._filling, False
        return waited / max(now - since, 1e-9), filling

    def _advice(self) -> str:
        workers = self.batches.workers
        more = min(max(2 * workers, 2), self.batches.most_workers)
        return (f"--workers {more} (now {workers}), or " if more > workers else "") + "smaller picture files"

    def _save(self, best: bool = False) -> None:
        self._means.read(self.step)  # a run that has diverged keeps its last good checkpoint
        state = {
            "config": self.config.plain(),
            "data": self.data,
            "versions": versions(),
            "step": self.step,
            "system": self.system.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "optimizers": {phase.name: phase.optimizer.state_dict() for phase in self.train_step.phases},
            "scalers": {name: scaler.state_dict() for name, scaler in self.train_step.scalers.items()},
            "batches": self.batches.state_dict(),
            "random": self._streams.state_dict(),
            "latents": self.latents,
            "logged": self._means.state_dict(),
            "best": self._evaluation.best,
            "owed": self._owed,
            "watch": self._watch.state_dict() if self._watch else None,
        }
        bad = not_finite(below({key: state[key] for key in ("system", "ema", "optimizers")}))
        if self.ranks.any(bad is not None):
            raise NonFinite(f"{bad[0]} is {bad[1]} after step {self.step}" if bad else "a weight is not finite")
        if self.ranks.first:
            checkpoint.save(self.run.checkpoint, state)
            if best:
                checkpoint.keep_as_best(self.run.checkpoint)
            self._identity = checkpoint.identity(self.run.checkpoint)
        self._saved = self.step
        self._tries = 0

    def _restore(self, state: dict[str, Any]) -> None:
        # Where the system has other options than it had, its optimizers keep the rates that follow from them.
        changed = state["config"]["options"] != self.config.plain()["options"]
        self.run.restore(self.system, state["system"])
        if self.ema:
            if state["ema"] is None:
                self.ema = self._average()
            else:
                self.ema.load_state_dict(state["ema"])
        for phase in self.train_step.phases:
            load_optimizer(phase.optimizer, state["optimizers"][phase.name], own=changed)
        for name, scaler in self.train_step.scalers.items():
            if name in state.get("scalers", {}):
                scaler.load_state_dict(state["scalers"][name])
        self.batches.load_state_dict(state["batches"])
        if state["latents"].shape != self.latents.shape:
            raise ValueError(f"{self.run.checkpoint} has latents of another shape than {self.system.name}'s")
        self.latents = state["latents"].to(self.system.device)
        self._means.load_state_dict(state["logged"], self.system.device)
        self.step = self._saved = state["step"]
        self._owed = state.get("owed", False) is True
        if self._watch and state.get("watch"):
            self._watch.load_state_dict(state["watch"])
        best = state["best"]
        self._evaluation.best = best if best is None else {"score": float(best["score"]), "step": int(best["step"])}
        self._identity = checkpoint.identity(self.run.checkpoint)
        self._streams.load_state_dict(state["random"], self.step)

    def _check_run(self) -> None:
        """That the directory still holds what this trainer left or found there."""
        if checkpoint.identity(self.run.checkpoint) != self._identity:
            raise FileExistsError(
                f"another trainer has saved a checkpoint in {self.run.path} since this one was made; go on from that "
                f"with `fastgan train --resume {quoted(self.run.path)}` (in Python: Trainer.resume)"
            )
        record(self.run, self.data, self.source)
        config.write(self.run.config, self.config)

    def _go_back(self, error: NonFinite) -> None:
        """Back to the last checkpoint, with other random numbers. FloatingPointError once there were enough tries."""
        if self._saved < 0:
            raise FloatingPointError(f"{error}: these weights cannot be trained") from None
        tries, until = self._tries, self.step
        log.warning("%s; repeating the steps since the checkpoint of step %d to find its cause", error, self._saved)
        found = self._replay(until)
        self._restore(self.ranks.from_first(self.run.read))
        if tries >= self.config.retries:
            raise FloatingPointError(
                f"{found or error}. The run in {self.run.path} is back at its checkpoint of step {self.step}, from "
                f"before that. {self._ways_on()}"
            ) from None
        self._tries = tries + 1
        log.warning("%s; back at step %d, try %d of %d", found or error, self.step, self._tries, self.config.retries)
        self._streams.begin(self.step, self._tries)

    def _ways_on(self) -> str:
        """What to type where values are not finite."""
        rate = self.config.options.get("learning_rate")
        ways = [f"--lr {rate / 2:g}"] if isinstance(rate, float) else []
        if self.train_step.autocast_dtype is not None:
            ways.append("--precision float32")
        if not self.config.retries:
            ways.append("--retries 3, which goes back and on with other random numbers")
        if not ways:
            return "It needs other networks or other data"
        return f"To go on from there: fastgan train --resume {quoted(self.run.path)} with {' or '.join(ways)}"

    def _replay(self, until: int) -> Finding | None:
        """The first tensor that is not finite in the steps from the last checkpoint on, which are the same again."""
        self._restore(self.ranks.from_first(self.run.read))
        check = Check(self.system)
        with suppress(Interrupted):
            while self.step < until and not self._asked():
                check.step = self.step + 1
                self._advance(check)
                for found in self.ranks.gather(check.found):
                    if found:
                        return found
        return None

    def _evaluate(self, report: Report) -> bool:
        """Whether this is the best so far."""
        self._owed = True
        if self.ranks.first:
            with self._streams.apart(), self._averaged(), evaluating(self.system), self._asking.at_once():
                score = self._evaluation.distance()
            self._evaluation.take(self.step, score)
            report.score(self.step, {self.config.metric: score})
        self._owed = False
        self._evaluation.best = self.ranks.from_first(lambda: self._evaluation.best)
        return self._evaluation.best is not None and self._evaluation.best["step"] == self.step

    def _patience_is_over(self) -> bool:
        best, patience = self._evaluation.best, self.config.patience * self.config.evaluate_every
        return bool(patience) and best is not None and self.step >= best["step"] + patience

    def _averaged(self) -> Any:
        return self.ema.applied() if self.ema else nullcontext()

    def _batches(self, workers: int | None, alone: bool = False) -> Batches:
        """alone: whole batches for this process, keeping nothing in memory."""
        ranks = Ranks() if alone else self.ranks
        return Batches(
            self.source,
            self.config.batch_size,
            seed=self.config.seed,
            device=self.system.device,
            channels_last=self.config.channels_last,
            flip=self.config.flip,
            workers=workers,
            rank=ranks.rank,
            ranks=ranks.count,
            memory=0 if alone else None,
        )
