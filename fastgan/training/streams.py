"""The random numbers of a run: its own, whatever the caller draws, and the same after a resume."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastgan.systems import System
from fastgan.systems.base import Stream
from fastgan.training.distributed import Ranks


class Streams:
    """Two of them: latents, alike in all processes, of which each takes its rows; and torch's global generators, from
    which everything else is drawn, each process's its own."""

    def __init__(self, system: System, seed: int, ranks: Ranks) -> None:
        self._system = system
        self._seed = seed
        self._ranks = ranks
        self._latents = Stream(torch.Generator(system.device), ranks.rank, ranks.count)
        self._active = False
        self._globals: dict[str, Tensor] = {}  # their states while not active
        self.begin()

    def begin(self, *numbers: int) -> None:
        """New random numbers, which follow from the seed and `numbers`."""
        # Not from the seed itself: the caller may have drawn the initial weights from that.
        self._latents.generator.manual_seed(_mixed(self._seed, 0, *numbers))
        with self.apart():
            torch.manual_seed(_mixed(self._seed, 1 + self._ranks.rank, *numbers))
            states = self._read()
        self._put(states)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside this context the system draws from here. Afterwards the global generators are the caller's again."""
        with self.apart():
            self._write(self._globals)
            self._system.stream = self._latents
            self._active = True
            try:
                yield
            finally:
                self._globals = self._read()
                self._system.stream = None
                self._active = False

    def apart(self) -> Any:
        """What is drawn from global generators inside this context is as if it had not been."""
        device = self._system.device
        return torch.random.fork_rng([device] if device.type == "cuda" else [])

    def state_dict(self) -> dict[str, Any]:
        """To be called in all processes at once."""
        state = self._read() if self._active else self._globals
        return {"latents": self._latents.generator.get_state(), "ranks": self._ranks.gather(state)}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """`step` begins new global streams where there are other processes than there were."""
        if len(state["ranks"]) == self._ranks.count:
            self._put(state["ranks"][self._ranks.rank])
        else:
            self.begin(step)
        self._latents.generator.set_state(state["latents"])

    def _put(self, states: dict[str, Tensor]) -> None:
        self._globals = states
        if self._active:
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


def _mixed(*numbers: int) -> int:
    """One seed from several numbers, as good as independent of that from others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
