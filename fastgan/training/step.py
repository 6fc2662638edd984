"""One step of training: prepare, then every phase in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from fastgan import backend
from fastgan.systems.base import Part, Phase, System
from fastgan.training import process
from fastgan.training.distributed import Ranks
from fastgan.training.health import Check

PRECISIONS = ("auto", "float32", "bfloat16")


class Step:
    """Trains a system by one batch a call; usable without a trainer.

        step = Step(system)
        losses = step(batch)        # {"discriminator/loss": scalar tensor, ...}, on the device, not waited for

    precision: "bfloat16" computes convolutions under bfloat16 autocast, weights stay float32; "float32" does not;
    "auto" is bfloat16 where the hardware computes in it. The system goes to train mode, and its convolution weights
    to channels_last unless that is False. `phases`: the system's, with their optimizers. `ranks`: the processes that
    each train on their part of the batch, and average their gradients. On a CPU, the process is told to keep its memory
    and to have no more threads than cores (see `fastgan.training.process`).
    """

    def __init__(
        self, system: System, *, precision: str = "auto", channels_last: bool = True, ranks: Ranks | None = None
    ) -> None:
        self.system = system.train()
        if system.device.type == "cpu":
            process.prepare()
        self.ranks = ranks or Ranks()
        if channels_last:
            system.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.autocast_dtype = _autocast_dtype(system.device, precision)
        self.phases = system.phases()
        parameters = list(system.parameters())
        self._trained = []  # by phase
        self._others = []  # by phase: the parameters it does not train
        for phase in self.phases:
            trained = {id(parameter) for network in phase.networks for parameter in network.parameters()}
            self._trained.append([parameter for parameter in parameters if id(parameter) in trained])
            self._others.append([parameter for parameter in parameters if id(parameter) not in trained])

    def __call__(self, batch: Any, check: Check | None = None) -> dict[str, Tensor]:
        """`check` looks at every tensor on the way."""
        with self._autocast():
            state = self.system.prepare(batch)
        if check:
            check.prepared(state)
        values = {}
        for phase, trained, others in zip(self.phases, self._trained, self._others):
            frozen = [parameter for parameter in others if parameter.requires_grad]
            for parameter in frozen:
                parameter.requires_grad_(False)
            try:
                phase.optimizer.zero_grad(set_to_none=True)
                loss, logged = self._backward(phase, state, check)
                self.ranks.average_([parameter.grad for parameter in trained if parameter.grad is not None])
                if check:
                    check.backward(phase.name, trained)
                phase.optimizer.step()
                if check:
                    check.updated(phase.name, trained)
            finally:
                for parameter in frozen:
                    parameter.requires_grad_(True)
            values[f"{phase.name}/loss"] = loss
            values.update((f"{phase.name}/{name}", value) for name, value in logged.items())
        return values

    def _backward(self, phase: Phase, state: Any, check: Check | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The phase's loss and logged values, detached, with the gradients left in `.grad`."""
        total: Tensor | None = None
        sums: dict[str, Tensor] = {}
        parts: Iterator[Part] | None = None
        while True:
            # A context for each phase and part: autocast keeps cast weights until it ends, and would serve the next
            # phase weights from before this phase's update.
            with self._autocast():
                if parts is None:
                    made = phase.loss(state)
                    parts = iter([made]) if isinstance(made, tuple) else made
                part = next(parts, None)
            if part is None:
                break
            loss, logged = part
            if check:
                check.forward(phase.name, loss, logged)
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
            for name, value in logged.items():
                sums[name] = sums[name] + value if name in sums else value
            del part, loss  # their graph, before the next part builds its own
        if total is None:
            raise ValueError(f"the loss of phase {phase.name!r} gave no part")
        return total, sums

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(
            self.system.device.type, self.autocast_dtype or torch.bfloat16, enabled=self.autocast_dtype is not None
        )


def _autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """The dtype to autocast to, None for none."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if precision == "bfloat16" or (precision == "auto" and backend.autocast_dtype(device) is torch.bfloat16):
        return torch.bfloat16
    return None
