"""The random numbers of a run: its own, whatever the caller draws, and the same after a resume."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint
from torch import Tensor

from fastgan.distributed import Ranks
from fastgan.losses import Lazy
from fastgan.messages import log
from fastgan.random import drawing_from, noticed, private
from fastgan.systems import System
from fastgan.systems.base import Stream

GLOBALS, APART = 2**32, 2**33  # what their seeds are mixed with, beyond the numbers of the processes


class Repeated(Exception):
    """A draw inside torch.utils.checkpoint, which repeats it in the backward pass: of torch's global generators only,
    and from where they were before this draw was noticed."""


class Streams:
    """Generators of the run: one for latents, alike in all processes, of which each takes its rows, and one a device
    for all else, each process's its own.

    A system of the user's may still draw from torch's global generators, which belong to the whole process. That is
    noticed in the first step, and in each first one with other penalties due (`fastgan.losses.Lazy`). From that draw on
    all numbers come from there: the global generators are the run's until `active` ends, and then the caller's again.
    """

    def __init__(self, system: System, seed: int, ranks: Ranks) -> None:
        self._system = system
        self._seed = seed
        self._ranks = ranks
        self._latents = Stream(torch.Generator(system.device), ranks.rank, ranks.count)
        self._own = {device.type: torch.Generator(device) for device in {torch.device("cpu"), system.device}}
        self._shared = False  # the numbers come from the global generators
        self._globals: dict[str, Tensor] = {}  # their states as the run left them
        self._callers: dict[str, Tensor] | None = None  # those of the caller, while the run has the generators
        self._active = False
        self._lazy = [module for module in system.modules() if isinstance(module, Lazy)]
        self._known: set[Hashable] = set()  # kinds of steps that were watched
        self.begin()

    def begin(self, *numbers: int) -> None:
        """New random numbers, which follow from the seed and `numbers`."""
        # Not from the seed itself: the caller may have drawn the initial weights from that.
        self._latents.generator.manual_seed(_mixed(self._seed, 0, *numbers))
        seed = _mixed(self._seed, 1 + self._ranks.rank, *numbers)
        for generator in self._own.values():
            generator.manual_seed(seed)
        seed = _mixed(self._seed, GLOBALS + self._ranks.rank, *numbers)
        self._put({name: torch.Generator(own.device).manual_seed(seed).get_state() for name, own in self._own.items()})

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside this context the system draws from here."""
        self._system.stream = self._latents
        self._active = True
        self._known.clear()
        try:
            with drawing_from(self._generator):
                if self._shared:
                    self._take()
                yield
        finally:
            self._system.stream = None
            self._active = False
            if self._callers is not None:
                self._globals = self._read()
                self._write(self._callers)
                self._callers = None

    def step(self) -> AbstractContextManager[None]:
        """Around every step: the first of its kind is watched."""
        kind = tuple(penalty.due for penalty in self._lazy)
        if self._shared or kind in self._known:
            return nullcontext()
        self._known.add(kind)
        return self._watched()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        def found(name: str, device: torch.device) -> None:
            if not self._shared and _is_checkpointed():
                raise Repeated
            if not self._shared:
                self.share(f"{name} draws from torch's global generator of {device.type}")

        def source(device: torch.device) -> torch.Generator | None:
            if not self._shared and _is_checkpointed():
                raise Repeated
            return self._generator(device)

        with drawing_from(source), noticed(found):
            yield

    def share(self, reason: str) -> None:
        """The global generators are the run's from here on, and all numbers come from them."""
        self._shared = True
        self._take()
        if self._ranks.first:
            log.info(
                "%s: until this run ends, the numbers of the global generators are the run's. To leave those alone, "
                "draw with generator=fastgan.random.current(device), or by fastgan.nn.Dropout",
                reason,
            )

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What is drawn inside this context is as if it had not been, and the same each time."""
        stream, self._system.stream = self._system.stream, None
        try:
            with private(_mixed(self._seed, APART)):
                yield
        finally:
            self._system.stream = stream

    def state_dict(self) -> dict[str, Any]:
        """To be called in all processes at once."""
        state = {name: generator.get_state() for name, generator in self._own.items()}
        mine = {**state, "globals": self._globals if self._callers is None else self._read(), "shared": self._shared}
        return {"latents": self._latents.generator.get_state(), "ranks": self._ranks.gather(mine)}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """`step` begins new streams where there are other processes than there were."""
        if len(state["ranks"]) == self._ranks.count:
            mine = state["ranks"][self._ranks.rank]
            for name, generator in self._own.items():
                if name in mine:
                    generator.set_state(mine[name])
            self._put(mine.get("globals", self._globals))  # which older checkpoints have not
        else:
            self.begin(step)
        self._shared = any(mine.get("shared", False) for mine in state["ranks"])
        self._known.clear()
        if self._shared and self._active:
            self._take()
        self._latents.generator.set_state(state["latents"])

    def _generator(self, device: torch.device) -> torch.Generator | None:
        return None if self._shared else self._own.get(device.type)

    def _take(self) -> None:
        if self._callers is None:
            self._callers = self._read()
            self._write(self._globals)

    def _put(self, states: dict[str, Tensor]) -> None:
        self._globals = states
        if self._callers is not None:
            self._write(states)

    def _read(self) -> dict[str, Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self._system.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._system.device)
        return states

    def _write(self, states: dict[str, Tensor]) -> None:
        torch.set_rng_state(states["cpu"])
        if self._system.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self._system.device)


def _is_checkpointed() -> bool:
    """Whether this is called from a function that torch.utils.checkpoint will call again in the backward pass, with
    torch's global generators as they are now."""
    frame, file = sys._getframe(), torch.utils.checkpoint.__file__
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_filename == file:
            return True
    return False


def _mixed(*numbers: int) -> int:
    """One seed from several numbers, as good as independent of that from others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
