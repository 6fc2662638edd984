"""What every GAN here has in common: a configuration, networks, phases, and samples.

A step of training calls `state = system.prepare(batch)` once and then runs the phases in order, each on that state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastgan.random import current

Part = tuple[Tensor, dict[str, Tensor]]  # a scalar to minimise, and detached scalars to log
Loss = Callable[[Any], Part | Iterator[Part]]


@dataclass(frozen=True)
class Stream:
    """Random numbers for a whole batch, alike in the `ranks` processes that share it, of which each takes its rows."""

    generator: torch.Generator
    rank: int = 0
    ranks: int = 1


@dataclass(frozen=True)
class Phase:
    """One optimizer's part of a step.

    Phases of one name are updates of one optimizer: their logged values are averaged.
    `loss` may be a generator function instead: the loss is the sum of the parts that it yields. Each is propagated
    backward, and its graph freed, before the next one is asked for. Logged values of one name are summed.
    """

    name: str  # prefix of its logged values
    networks: tuple[nn.Module, ...]  # trained here; every other parameter of the system is frozen meanwhile
    loss: Loss  # of what prepare() returned: the scalar to minimise, and detached scalars to log
    optimizer: torch.optim.Optimizer
    clip: float = 0.0  # the most that the norm of all its gradients together may be; 0: anything
    rate: Callable[[int], float] | None = None  # the share of its learning rate, by the number of the step, from 0


class System(nn.Module, ABC):
    """A GAN. Networks are submodules, whatever else training changes (history, controllers) are buffers.

    A subclass names its configuration, builds its networks in `__init__`, and gives `phases`, `latent` and `generate`.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    averaged: ClassVar[tuple[str, ...]] = ("generator",)  # submodules that samples come from
    classes: int = 0  # how many a sample may be asked to be of; 0: it is not conditional
    class_names: tuple[str, ...] = ()  # of these, in the order of their numbers; empty where the data named none
    batches: int = 1  # how many batches, put together, one step takes
    stream: Stream | None = None  # where latents come from while a trainer is at work; else the global generator

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images it trains on."""
        return self.config.channels, self.config.resolution, self.config.resolution

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def prepare(self, batch: Any) -> Any:
        """What the phases of one step share. `batch.image`: (N, C, H, W) in [-1, 1]; `batch.label`: (N,) or none."""
        return batch

    def begin(self, batches: Iterator[Any]) -> None:
        """Called once, before the first step of a new run, with one pass over the data in their own order, for a system
        that learns something from them beforehand. What it keeps must be a buffer."""

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases of a step with new optimizers. Call it after the system has its device and dtype."""

    @abstractmethod
    def latent(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """(count, ...) latents on the system's device. The same `generator` state gives the same on every device."""

    @abstractmethod
    def generate(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images in [-1, 1] from latents, in the mode (train or eval) and grad mode that is set."""

    def freeze(self) -> None:
        """Called on a copy whose `generate` is about to be recorded for a file: computes once what depends on weights
        and buffers alone and has no operation in other runtimes."""

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        latent: Tensor | None = None,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """`count` images, (count, C, H, W) in [-1, 1], by the networks in eval mode: no state changes.

        `latent`: drawn from `generator` where it is not given. `labels`: of a conditional system every class in turn.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, not {count}")
        if latent is None:
            latent = self.latent(count, generator)
        elif len(latent) != count:
            raise ValueError(f"count is {count} but latent has {len(latent)} rows (shape {tuple(latent.shape)})")
        if self.classes and labels is None:
            labels = torch.arange(count, device=self.device) % self.classes
        with evaluating(self):
            return self.generate(latent, labels)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every submodule has the mode it had, also where they differed."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def adam(network: nn.Module, learning_rate: float, betas: tuple[float, float]) -> torch.optim.Adam:
    """Adam over the network's parameters, in one fused kernel where the device has one."""
    parameters = list(network.parameters())
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, fused=fused or None)


def normal(shape: tuple[int, ...], system: System, generator: torch.Generator | None) -> Tensor:
    """N(0, 1) on the system's device; drawn where the generator lives. Without one, from the system's stream."""
    return _rows(torch.randn, shape, system, generator, system.dtype)


def uniform(shape: tuple[int, ...], system: System, generator: torch.Generator | None, low: float = -1.0) -> Tensor:
    """U(low, 1), drawn as by `normal`."""
    return _rows(torch.rand, shape, system, generator, system.dtype) * (1 - low) + low


def choices(count: int, among: int, system: System, generator: torch.Generator | None = None) -> Tensor:
    """(count,) whole numbers from 0 to among - 1, int64, drawn as by `normal`."""
    return _rows(partial(torch.randint, among), (count,), system, generator, torch.int64)


def _rows(
    draw: Callable[..., Tensor],
    shape: tuple[int, ...],
    system: System,
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> Tensor:
    rank, ranks = 0, 1
    if generator is None and (stream := system.stream) is not None:
        generator, rank, ranks = stream.generator, stream.rank, stream.ranks
    generator = generator or current(system.device)
    rows, *rest = shape
    device = system.device if generator is None else generator.device
    everyone = draw((rows * ranks, *rest), generator=generator, device=device, dtype=dtype).to(system.device)
    return everyone[rank * rows : (rank + 1) * rows]
