"""What every GAN here has in common: a configuration, networks and phases.

A step of training calls `state = system.prepare(batch)` once and then runs the phases in order, each on that state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastgan.data.fields import Batch, Field
from fastgan.data.panel import Panel
from fastgan.options import build, options
from fastgan.random import current
from fastgan.systems.optimizers import Adam
from fastgan.systems.pool import ImagePool
from fastgan.systems.quick import Preset
from fastgan.systems.remedies import Remedy

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
    `when` is for stages, such as one network trained alone at first: a recorded step is recorded anew at each change.
    `loss` may be a generator function instead: the loss is the sum of the parts that it yields. Each is propagated
    backward, and its graph freed, before the next one is asked for. Logged values of one name are summed.
    """

    name: str  # prefix of its logged values
    networks: tuple[nn.Module, ...]  # trained here; every other parameter of the system is frozen meanwhile
    loss: Loss  # of what prepare() returned: the scalar to minimise, and detached scalars to log
    optimizer: torch.optim.Optimizer
    clip: float = 0.0  # the most that the norm of all its gradients together may be; 0: anything
    rate: Callable[[int], float] | None = None  # the share of its learning rate, by the number of the step, from 0
    when: Callable[[int], bool] | None = None  # whether it has a part in the step of that number; None: in every one


@dataclass(frozen=True)
class Output:
    """What a system makes, and with what of the data to compare it."""

    values: Tensor  # (N, ...)
    against: str  # the field of the data that they should be like
    truth: Tensor | None = None  # (N, ...) what each of them should be, where that is known
    labels: Tensor | None = None  # (N,) their classes


class System(nn.Module, ABC):
    """A GAN. Networks are submodules, whatever else training changes (history, controllers) are buffers.

    A subclass names its configuration, builds its networks in `__init__`, and gives `inputs` and `phases`. What it does
    beyond training is that of its kind: `Generative`, `Translator`, `TextToImage`, `Sequences`.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    averaged: ClassVar[tuple[str, ...]] = ("generator",)  # submodules that results come from
    trains_on: ClassVar[str] = "digits"  # what `fastgan train NAME` loads where no data are named
    best_by: ClassVar[str] = "sliced_wasserstein"  # the metric of the best checkpoint, unless asked for otherwise
    classes: int = 0  # how many a sample may be asked to be of; 0: it is not conditional
    class_names: tuple[str, ...] = ()  # of these, in the order of their numbers; empty where the data named none
    batches: int = 1  # how many batches, put together, one step takes
    stream: Stream | None = None  # where latents come from while a trainer is at work; else the global generator

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @abstractmethod
    def inputs(self) -> dict[str, Field]:
        """What it trains on: the names of fields, as in a `Batch`, and what each must be."""

    @classmethod
    def options_for(cls, fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
        """The options that follow from data of these fields, where they are not `given`."""
        return {}

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        """The preset for minutes on a CPU, with data of these fields and so many rows (None: a stream), for so many
        steps (None: not said)."""
        return Preset({}, {})

    @classmethod
    def paper(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        """What its paper does beside the defaults of its options, such as its batch size; arguments as of `quick`."""
        return Preset({}, {})

    def told_of(self, data: Mapping[str, Any]) -> None:
        """Called with what a run knows of its data (`classes`, names among them), before training and after loading."""
        names = tuple(data.get("classes") or ())
        self.class_names = names if len(names) == self.classes else ()

    def prepare(self, batch: Batch) -> Any:
        """What the phases of one step share. The batch has the fields of `inputs`."""
        return batch

    def begin(self, batches: Iterator[Batch]) -> None:
        """Called once, before the first step of a new run, with one pass over the data in their own order, for a system
        that learns something from them beforehand. What it keeps must be a buffer."""

    @abstractmethod
    def phases(self) -> list[Phase]:
        """The phases of a step with new optimizers. Call it after the system has its device and dtype."""

    @property
    def live(self) -> tuple[str, ...]:
        """Options that `change` takes while it is trained."""
        return tuple(each.name for each in options(self.Config) if each.on_resume == "live")

    def change(self, **given: Any) -> None:
        """Goes on with other values of options that are `live`. ValueError or TypeError as for a new system.

        A system that has made something of its options makes it anew."""
        for each in options(self.Config):
            if each.name in given and each.name not in self.live:
                accepted = ", ".join(self.live) or "none"
                raise ValueError(f"what may change in a system at work is {accepted}, not {each.name}")
        self.config = build(self.Config, {**vars(self.config), **given}, f"system {self.name}")

    def remedies(self, symptom: str) -> list[Remedy]:
        """What the literature does against a symptom of `fastgan.systems.remedies`, the first to try first."""
        return []

    def signs(self, batch: Batch, probe: Batch, logged: Mapping[str, float]) -> Mapping[str, Tensor] | None:
        """Numbers that `fastgan.training.health` looks at beside those that are logged, by name: scalars, of a few rows
        and by the networks as they are. Asked for when the log is written, so that they cost a step nothing.

        batch: of the last step.   logged: the means since the last time.   None: rows so few tell nothing."""
        return {}

    @abstractmethod
    def probe(self, source: Any, count: int, generator: torch.Generator) -> Batch:
        """What previews are made from, `count` rows: a run draws it once and keeps it. On the system's device."""

    def seen(self, batch: Batch, count: int) -> list[Panel]:
        """At most `count` of the pictures or points of a batch, as the networks see them: a panel a field."""
        pictures = {
            name: values[:count].float()
            for name, values in batch.items()
            if values.dim() == 4 or (values.is_floating_point() and values.shape[1:] == (2,))
        }
        return [Panel(name, {name: images}) for name, images in pictures.items()]

    @abstractmethod
    def show(self, probe: Batch) -> list[Panel]:
        """What it makes of a probe, by the networks in eval mode: no state changes."""

    @abstractmethod
    def outputs(self, source: Any, count: int, generator: torch.Generator) -> Iterator[Output]:
        """`count` results in parts, for the best checkpoint and for evaluation, by the networks in eval mode."""

    def convergence(self) -> float | None:
        """How far it is from what it is trained for, by its losses alone; lower is better, None: too early to say. For
        `--metric convergence`, of a system that measures it."""
        return None

    def rank_state(self) -> dict[str, Tensor]:
        """Entries of `state_dict` that differ from process to process: the pictures in each `ImagePool`."""
        return {
            f"{name}.{key}": value
            for name, module in self.named_modules()
            if isinstance(module, ImagePool)
            for key, value in module.state_dict().items()
        }

    def recording(self) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
        """What an exported program computes, and an example of its inputs by name, of two rows each."""
        raise ValueError(f"{self.name} cannot be recorded: export it as .safetensors, which fastgan.load reads")

    def freeze(self) -> None:
        """Called on a copy whose results are about to be recorded for a file: computes once what depends on weights
        and buffers alone and has no operation in other runtimes."""


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
    return Adam(parameters, lr=learning_rate, betas=betas, fused=fused or None)


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
