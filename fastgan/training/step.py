"""One step of training: prepare, then every phase in order; on CUDA replayed as one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastgan import backend
from fastgan.distributed import Ranks
from fastgan.messages import log
from fastgan.random import current
from fastgan.recomputation import recompute
from fastgan.systems.base import Part, Phase, System
from fastgan.training import graph as graphs
from fastgan.training import process
from fastgan.training.host import Held, HostState
from fastgan.training.nonfinite import Check

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
GRAPH = ("auto", True, False)


class GraphedStep:
    """Trains networks by one batch a call: all phases in order, on CUDA replayed as one graph.

        step = GraphedStep(
            [Phase("discriminator", (netD,), d_loss, optimizer_d), Phase("generator", (netG,), g_loss, optimizer_g)],
            prepare=lambda images: (images, netG(torch.randn(len(images), 100, 1, 1, device=images.device))),
        )
        losses = step(images)       # {"discriminator/loss": scalar tensor, ...}, on the device, not waited for

    The first calls run in eager mode. From then on the step is recorded once for each shape, dtype, layout and device
    of its inputs, each mode of its modules and each set of penalties that are due (`fastgan.losses.Lazy`), and
    replayed: the same numbers, without Python between the kernels. It is recorded anew where a learning rate that is
    a number changes, `requires_grad`, or the memory of a parameter. Where it cannot be recorded, on a CPU for
    instance, it runs in eager mode, and `reason` says why. What a replay cannot repeat is Python: a counter or a
    random number of Python's in a loss. Attributes of modules are watched for that, variables of a closure are not.

    phases: while one runs, the parameters of the others are frozen. Gradients are freed when its optimizer has used
        them.
    prepare: from the inputs of a call what the phases share; by default the input itself.
    modules: others than the phases' networks that the step reads or changes.
    generators: the `torch.Generator`s on the device that it draws from, beside the device's own.
    precision: "float32": no autocast but your own. "bfloat16": autocast. "float16": autocast on CUDA, gradients
        scaled, a step whose gradients overflow left out, all of it on the device. "auto": bfloat16 where the hardware
        computes in it.
    graph: "auto", or True to be warned where the step is not recorded, or False.
    memory: "fast", or "small": the losses are computed in `fastgan.recompute`.

    ValueError for phases of one name with several optimizers, an unknown precision, graph or memory, or float16
    elsewhere than on CUDA.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        *,
        prepare: Callable[..., Any] | None = None,
        modules: Iterable[nn.Module] = (),
        generators: Sequence[torch.Generator] = (),
        precision: str = "float32",
        graph: bool | str = "auto",
        memory: str = "fast",
        ranks: Ranks | None = None,
    ) -> None:
        self.phases = list(phases)
        self.after: list[Callable[[dict[str, Tensor]], None]] = []  # called at the end of a step, as part of it
        self.norms = False  # log the norm of all gradients of a phase together, as `gradient`
        self.number = 0  # of the next step, counted from 0: what phases take their rates and their parts by
        optimizers: dict[str, torch.optim.Optimizer] = {}
        if not self.phases:
            raise ValueError("a step needs at least one phase")
        for phase in self.phases:
            if optimizers.setdefault(phase.name, phase.optimizer) is not phase.optimizer:
                raise ValueError(f"phases of one name share an optimizer; {phase.name!r} has two")
        if not any(graph is known or graph == known for known in GRAPH):
            raise ValueError(f"graph must be auto, True or False, not {graph!r}")
        if memory not in process.MEMORY:
            raise ValueError(f"memory must be {' or '.join(process.MEMORY)}, not {memory!r}")
        self.memory = memory
        self._modules = list(dict.fromkeys([*modules, *(network for phase in phases for network in phase.networks)]))
        parameters = list(dict.fromkeys(p for module in self._modules for p in module.parameters()))
        if not parameters:
            raise ValueError("the networks of the phases have no parameters")
        self.device = parameters[0].device
        self.ranks = ranks or Ranks()
        self.autocast_dtype = _autocast_dtype(self.device, precision)
        # One for each phase: its gradients overflow for themselves.
        scaled = optimizers if precision == "float16" else ()
        self.scalers = {name: torch.amp.GradScaler(self.device.type) for name in scaled}
        self._prepare = prepare or _itself
        self._generators = list(generators)
        self._trained = []  # by phase
        self._others = []  # by phase: the parameters it does not train
        for phase in self.phases:
            trained = {id(parameter) for network in phase.networks for parameter in network.parameters()}
            self._trained.append([parameter for parameter in parameters if id(parameter) in trained])
            self._others.append([parameter for parameter in parameters if id(parameter) not in trained])
        for phase in self.phases:
            for group in phase.optimizer.param_groups if phase.rate else ():
                group.setdefault("initial_lr", float(group["lr"]))
        self._held = Held(self._modules, optimizers, self.device)
        self._replayed: graphs.Replayed | None = None
        self._reason = self._why_not(graph, parameters)
        if not self._reason:
            recorder = graphs.RECORDERS[self.device.type](self.device)
            self._replayed = graphs.Replayed(
                self._run, recorder, lambda: self._host(recorder.defers), lambda: self.generators
            )
        elif graph is True:
            log.warning("the step runs in eager mode, not as a CUDA graph: %s", self._reason)

    @property
    def reason(self) -> str:
        """Why the step is not recorded, "" where it is or will be."""
        return self._replayed.reason if self._replayed else self._reason

    @property
    def generators(self) -> list[torch.Generator]:
        """Those on the step's device that it draws from, beside the device's own."""
        return [generator for generator in self._generators if generator.device.type == self.device.type]

    def __call__(self, *inputs: Any, check: Check | None = None) -> dict[str, Tensor]:
        """`check` looks at every tensor on the way, in eager mode."""
        self._set_rates()
        if self._replayed is None or check:
            values = self._run(*inputs, check=check)
        else:
            state = self._held.now()
            state["a random generator"] = tuple(self.generators)
            state["the phases that have a part in the step"] = tuple(map(self._has_part, self.phases))
            values = self._replayed(inputs, state)
        self.number += 1
        return values

    def forget(self) -> None:
        """Recordings are made anew: what `after` adds to lies elsewhere now."""
        if self._replayed:
            self._replayed.forget()

    def renew(self) -> None:
        """To be called after a change that a recording cannot notice: of what a loss reads in Python."""
        if self._replayed:
            self._replayed.forget()

    def _set_rates(self) -> None:
        for phase in self.phases:
            if phase.rate is None:
                continue
            share = phase.rate(self.number)
            for group in phase.optimizer.param_groups:
                rate = share * group["initial_lr"]
                if isinstance(group["lr"], Tensor):  # a recording reads it where it lies
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def _has_part(self, phase: Phase) -> bool:
        return phase.when is None or phase.when(self.number)

    def _run(self, *inputs: Any, check: Check | None = None) -> dict[str, Tensor]:
        with self._autocast():
            state = self._prepare(*inputs)
        if check:
            check.prepared(state)
        values: dict[str, Tensor] = {}
        times: dict[str, int] = {}
        for phase, trained, others in zip(self.phases, self._trained, self._others):
            if not self._has_part(phase):
                continue
            scaler = self.scalers.get(phase.name)
            frozen = [parameter for parameter in others if parameter.requires_grad]
            for parameter in frozen:
                parameter.requires_grad_(False)
            try:
                phase.optimizer.zero_grad(set_to_none=True)
                loss, logged = self._backward(phase, state, check)
                self.ranks.average_([parameter.grad for parameter in trained if parameter.grad is not None])
                if phase.clip or self.norms:
                    if scaler:  # which it would do in its step
                        scaler.unscale_(phase.optimizer)
                    norm = _norm(trained, phase.clip)
                    # A step whose gradients overflow is left out, and is no reason to stop.
                    logged["gradient"] = norm.nan_to_num(0.0, 0.0, 0.0) if scaler else norm
                if check and not scaler:  # scaled gradients may overflow
                    check.backward(phase.name, trained)
                if scaler:
                    scaler.step(phase.optimizer)
                    scaler.update()
                else:
                    phase.optimizer.step()
                if check:
                    check.updated(phase.name, trained)
                for parameter in trained:  # before the next phase makes its own
                    parameter.grad = None
            finally:
                for parameter in frozen:
                    parameter.requires_grad_(True)
            for name, value in {"loss": loss, **logged}.items():
                name = f"{phase.name}/{name}"
                times[name] = times.get(name, 0) + 1
                values[name] = values[name] + value if name in values else value
        if not values:
            raise ValueError(f"no phase has a part in step {self.number}")
        values = {name: value / times[name] if times[name] > 1 else value for name, value in values.items()}
        for function in self.after:
            function(values)
        torch.clear_autocast_cache()  # that of an autocast around the step holds weights from before the updates
        return values

    def _backward(self, phase: Phase, state: Any, check: Check | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The phase's loss and logged values, detached, with the gradients left in `.grad`."""
        scaler = self.scalers.get(phase.name)
        total: Tensor | None = None
        sums: dict[str, Tensor] = {}
        parts: Iterator[Part] | None = None
        while True:
            # A context for each phase and part: autocast keeps cast weights until it ends, and would serve the next
            # phase weights from before this phase's update.
            with self._autocast():
                if parts is None:
                    made = phase.loss(state)
                    parts = iter([_with_values(made)]) if isinstance(made, tuple | Tensor) else made
                part = next(parts, None)
            if part is None:
                break
            loss, logged = _with_values(part)
            if check:
                check.forward(phase.name, loss, logged)
            (scaler.scale(loss) if scaler else loss).backward()
            total = loss.detach() if total is None else total + loss.detach()
            for name, value in logged.items():
                sums[name] = sums[name] + value if name in sums else value
            del part, loss  # their graph, before the next part builds its own
        if total is None:
            raise ValueError(f"the loss of phase {phase.name!r} gave no part")
        return total, sums

    def _autocast(self) -> AbstractContextManager[Any]:
        torch.clear_autocast_cache()
        contexts = ExitStack()
        contexts.enter_context(
            torch.autocast(
                self.device.type, self.autocast_dtype or torch.bfloat16, enabled=self.autocast_dtype is not None
            )
        )
        if self.memory == "small":
            contexts.enter_context(recompute())
        return contexts

    def _host(self, defers: Callable[[Tensor], bool]) -> HostState:
        functions = [self._prepare, *(phase.loss for phase in self.phases)]
        owners = [function.__self__ for function in functions if hasattr(function, "__self__")]
        on_host = current(torch.device("cpu"))
        return HostState(self._held, owners, defers, [*self._generators, *([on_host] if on_host else [])])

    def _why_not(self, graph: bool | str, parameters: list[nn.Parameter]) -> str:
        if graph is False:
            return "it was asked not to be (graph=False)"
        if self.device.type not in graphs.RECORDERS:
            return f"the networks are on {self.device}; CUDA alone has graphs"
        if devices := {str(parameter.device) for parameter in parameters if parameter.device != self.device}:
            return f"the networks are on several devices ({self.device}, {', '.join(sorted(devices))})"
        if self.ranks.count > 1 and self.device.type == "cuda" and "nccl" not in dist.get_backend_config().lower():
            return f"processes that talk through {dist.get_backend()} cannot be part of a graph; nccl can"
        for phase in self.phases:
            if any(group.get("capturable", True) is False for group in phase.optimizer.param_groups):
                kind = type(phase.optimizer).__name__
                return (
                    f"the optimizer of phase {phase.name!r} counts its steps on the CPU: make it with "
                    f"torch.optim.{kind}(..., capturable=True)"
                )
        return ""


class Step(GraphedStep):
    """Trains a system by one batch a call; usable without a trainer.

        step = Step(system)
        losses = step(batch)        # {"discriminator/loss": scalar tensor, ...}, on the device, not waited for

    precision, graph, memory: as GraphedStep has them. The system goes to train mode, and its convolution weights to
    channels_last unless that is False. `phases`: the system's, with their optimizers. `ranks`: the processes that each
    train on their part of the batch, and average their gradients. On a CPU, call
    `fastgan.training.process.prepare(memory)` before, once, as `Trainer.fit` does: it changes settings of the process.
    """

    def __init__(
        self,
        system: System,
        *,
        precision: str = "auto",
        channels_last: bool = True,
        ranks: Ranks | None = None,
        graph: bool | str = "auto",
        memory: str = "fast",
    ) -> None:
        self.system = system.train()
        if channels_last:
            system.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if precision == "auto" and getattr(system, "makes", "image") == "vector":
            precision = (
                "float32"  # points: bfloat16 has three digits, a mode's width may be less, and nothing is faster
            )
        phases = system.phases()
        if system.device.type in graphs.RECORDERS:
            for phase in phases:
                _capturable(phase.optimizer, system.device)
        super().__init__(
            phases, prepare=system.prepare, modules=[system], precision=precision, graph=graph, memory=memory,
            ranks=ranks,
        )  # fmt: skip

    @property
    def generators(self) -> list[torch.Generator]:
        drawn = [self.system.stream and self.system.stream.generator, current(self.device)]
        return [generator for generator in drawn if generator and generator.device.type == self.device.type]


def _capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """An optimizer without state counts its steps on the device from now on, and has its learning rate there, so that
    a recording reads it anew in every replay."""
    for group in optimizer.param_groups:
        if "capturable" in group and not optimizer.state:
            group["capturable"] = True
            optimizer._warned_capturable_if_run_uncaptured = True  # nothing is amiss
            if not isinstance(group["lr"], Tensor):
                group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], *, own: bool = False) -> None:
    """What `optimizer.state_dict()` gave, perhaps on another device. How this one computes stays as it is; a learning
    rate that is a tensor stays the same tensor. Gradients are dropped.

    own: learning rates, betas and whatever else a group sets are this optimizer's, not the state's.
    """
    names = ("fused", "foreach", "capturable", "lr")
    kept = [
        {name: value for name, value in group.items() if name in names or (own and name != "params")}
        for group in optimizer.param_groups
    ]
    first = [{name: group[name] for name in ("initial_lr",) if name in group} for group in optimizer.param_groups]
    saved = [{**new, **group, **mine} for new, group, mine in zip(first, state["param_groups"], kept)]
    rates = [float(group["lr"]) for group in (optimizer.param_groups if own else state["param_groups"])]
    optimizer.load_state_dict({**state, "param_groups": saved if len(saved) == len(state["param_groups"]) else []})
    for group, mine, rate in zip(optimizer.param_groups, kept, rates):
        if isinstance(mine["lr"], Tensor):
            group["lr"] = mine["lr"].fill_(rate)
        else:
            group["lr"] = rate
    optimizer.zero_grad()


def _norm(parameters: list[nn.Parameter], most: float) -> Tensor:
    """That of all gradients together, as it was before they were made shorter to have at most `most`, if any."""
    if most:
        return nn.utils.clip_grad_norm_(parameters, most).detach()
    return nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])


def _itself(*inputs: Any) -> Any:
    return inputs[0] if len(inputs) == 1 else inputs


def _with_values(part: Part | Tensor) -> Part:
    return (part, {}) if isinstance(part, Tensor) else part


def _autocast_dtype(device: torch.device, precision: str) -> torch.dtype | None:
    """The dtype to autocast to, None for none."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if precision == "float16":
        if device.type != "cuda":
            raise ValueError(f"precision float16 needs a CUDA device, not {device}; bfloat16 and float32 run there")
        return torch.float16
    if precision == "bfloat16" or (precision == "auto" and backend.autocast_dtype(device) is torch.bfloat16):
        return torch.bfloat16
    return None
