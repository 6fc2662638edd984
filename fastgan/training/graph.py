"""A function recorded once for each kind of input as a CUDA graph, and replayed on the same memory.

A replay repeats the kernels of the recording and nothing else: no Python runs, so what Python decides (a counter, a
learning rate that is a number, the mode of a module) is part of what tells one recording from another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import traceback
import weakref
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor

from fastgan.data.fields import Batch
from fastgan.losses import lazy
from fastgan.messages import log
from fastgan.random import noticed
from fastgan.training.host import HostState

WARM = 3  # calls before the first recording: libraries choose their algorithms, optimizers make their state
MOST = 16  # recordings, or changes of what they hold fixed; what needs more gains little from them
KINDS = 64  # of inputs whose calls are counted


class NotRecorded(RuntimeError):
    """Why a function cannot be recorded."""


class Recording(Protocol):
    def replay(self) -> None: ...


class Recorder(Protocol):
    """Records what runs on one device."""

    def warm(self, function: Callable[[], Any]) -> Any:
        """Calls the function as `record` will."""

    def record(self, function: Callable[[], Any], generators: Sequence[torch.Generator]) -> tuple[Recording, Any]:
        """A recording of the function's kernels, which do not run yet, and the tensors that it returned."""

    def defers(self, tensor: Tensor) -> bool:
        """Whether what a recording does to this tensor happens in the replay."""


class CUDARecorder:
    """All recordings share one pool of memory: they run one after the other, each from its inputs."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self._graphs: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()

    def warm(self, function: Callable[[], Any]) -> Any:
        # On the stream of the recordings: autograd's accumulators and the workspaces of libraries belong to a stream.
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        mapped(result, lambda tensor: tensor.record_stream(current) if tensor.is_cuda else None)
        return result

    def record(self, function: Callable[[], Any], generators: Sequence[torch.Generator]) -> tuple[Recording, Any]:
        graph = torch.cuda.CUDAGraph()
        own = torch.cuda.default_generators[self.stream.device_index]
        before = [(generator, generator.clone_state()) for generator in {own, *generators}]
        for generator in generators:
            graph.register_generator_state(generator)
        # That of one that is in use: the pool of graphs that are gone cannot be joined.
        pool: dict[str, Any] = next(({"pool": other.pool()} for other in self._graphs), {})
        torch.cuda.synchronize(self.device)
        gc.collect()
        torch.cuda.empty_cache()
        try:
            with torch.cuda.stream(self.stream):
                # Not the mode that refuses what other threads do, such as those that pin the next batch.
                graph.capture_begin(**pool, capture_error_mode="thread_local")
                try:
                    result = function()
                except BaseException:
                    with contextlib.suppress(RuntimeError):  # it says that the recording is void, not why
                        graph.capture_end()
                    raise
                graph.capture_end()
        except BaseException:
            for generator, state in before:  # which else still count their numbers for a recording
                generator.graphsafe_set_state(state)
            raise
        self._graphs.add(graph)
        return graph, result

    def defers(self, tensor: Tensor) -> bool:
        return tensor.is_cuda


RECORDERS: dict[str, Callable[[torch.device], Recorder]] = {"cuda": CUDARecorder}  # by type of device


@dataclasses.dataclass
class Kind:
    """Calls that one recording can serve."""

    calls: int = 0
    recording: Recording | None = None
    inputs: list[Tensor] = dataclasses.field(default_factory=list)
    names: list[str] = dataclasses.field(default_factory=list)
    values: list[Tensor] = dataclasses.field(default_factory=list)  # one of all, where they are alike
    counts: dict[lazy.Lazy, int] = dataclasses.field(default_factory=dict)


class Replayed:
    """`function(*inputs)`, which returns named scalars, from recordings.

    recorder: of the device.   generators: which the function draws from beside the device's own.   host: what a
    recording could change on the side of Python.   `reason`: why there are no recordings any more, "" as long as there
    are.
    """

    def __init__(
        self,
        function: Callable[..., dict[str, Tensor]],
        recorder: Recorder,
        host: Callable[[], HostState],
        generators: Callable[[], Sequence[torch.Generator]] = lambda: (),
    ) -> None:
        self.reason = ""
        self.recorded = 0  # recordings so far
        self._function = function
        self._recorder = recorder
        self._host = host
        self._generators = generators
        self._calls = self._changes = 0
        self._kinds: dict[Hashable, Kind] = {}
        self._lazy: dict[lazy.Lazy, int] = {}  # penalties seen, and their calls in a call of the function
        self._state: dict[str, Hashable] = {}  # what all recordings have in common

    def __call__(self, inputs: tuple[Any, ...], state: dict[str, Hashable]) -> dict[str, Tensor]:
        """`state`: what the recordings hold fixed, by name; where it differs, they are made anew."""
        if self.reason:
            return self._function(*inputs)
        self._renew(state)
        if self.reason:
            return self._function(*inputs)
        try:
            leaves, signature = flatten(inputs)
            if elsewhere := [leaf.device for leaf in leaves if not self._recorder.defers(leaf)]:
                raise NotRecorded(f"an input is on {elsewhere[0]}: move it to the device before the step")
        except NotRecorded as error:
            self._give_up(str(error))
            return self._function(*inputs)
        kind = self._kind(signature)
        if kind.recording is None and (self._calls < WARM or kind.calls < 1 or self.recorded >= MOST):
            self._calls += 1
            kind.calls += 1
            with lazy.counted() as counts:
                result = self._recorder.warm(lambda: self._function(*inputs))
            self._seen(counts)
            return result
        if kind.recording is None:
            try:
                self._record(kind, inputs, leaves, state)
            except Exception as error:
                self._give_up(_reason(error))
                return self._function(*inputs)
        else:
            for penalty, count in kind.counts.items():
                penalty.calls += count
            for static, given in zip(kind.inputs, leaves):
                static.copy_(given, non_blocking=True)
        assert kind.recording is not None
        kind.recording.replay()
        if len(kind.values) == 1:
            return dict(zip(kind.names, kind.values[0].clone().unbind()))
        return {name: value.clone() for name, value in zip(kind.names, kind.values)}

    def forget(self) -> None:
        """What was recorded is made anew."""
        self._kinds.clear()
        self.recorded = self._changes = 0

    def _renew(self, state: dict[str, Hashable]) -> None:
        if state == self._state:
            return
        if self._state:
            self._changes += 1
            changed = ", ".join(name for name in state if state[name] != self._state.get(name))
            if self._changes >= MOST:
                self._give_up(f"{changed} changed, after {MOST} changes of such things")
            elif any(kind.recording for kind in self._kinds.values()):
                log.info("recording the step anew: %s changed", changed)
        self._kinds.clear()
        self._state = state

    def _kind(self, signature: Hashable) -> Kind:
        due = tuple(
            (id(penalty), *((penalty.calls + call) % penalty.every == 0 for call in range(count)))
            for penalty, count in self._lazy.items()
        )
        key = signature, due
        if key not in self._kinds and len(self._kinds) >= KINDS:
            self._kinds = {known: kind for known, kind in self._kinds.items() if kind.recording}
        return self._kinds.setdefault(key, Kind())

    def _seen(self, counts: dict[lazy.Lazy, int]) -> None:
        for penalty, count in counts.items():
            self._lazy[penalty] = max(count, self._lazy.get(penalty, 0))

    def _record(self, kind: Kind, inputs: tuple[Any, ...], leaves: list[Tensor], state: dict[str, Hashable]) -> None:
        """Python runs the function once, the device not at all."""
        kind.inputs = [leaf.detach().clone().requires_grad_(leaf.requires_grad) for leaf in leaves]
        static = iter(kind.inputs)
        fixed = tuple(mapped(value, lambda _: next(static)) for value in inputs)
        host = self._host()
        before = {penalty: penalty.calls for penalty in self._lazy}
        names: list[str] = []

        def function() -> list[Tensor]:
            values = self._function(*fixed)
            names.extend(values)
            alike = {(value.dtype, value.device, value.shape) for value in values.values()}
            for name, value in values.items():
                if not self._recorder.defers(value):
                    raise NotRecorded(f"the logged value {name!r} is on {value.device}")
            return [torch.stack(list(values.values()))] if len(alike) == 1 else list(values.values())

        try:
            with lazy.counted() as counts, noticed(host.draws):
                kind.recording, kind.values = self._recorder.record(function, self._generators())
            host.verify()
        except BaseException:
            kind.recording = None
            host.restore()
            for penalty in counts:
                penalty.calls = before.get(penalty, penalty.calls - counts[penalty])
            raise
        kind.names, kind.counts = names, dict(counts)
        self._seen(counts)
        self.recorded += 1
        if self.recorded == 1:
            log.info("the step is recorded as a CUDA graph")

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        self._kinds.clear()
        log.warning("the step runs in eager mode, not as a CUDA graph: %s", reason)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, NotRecorded):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    torchs = Path(torch.__file__).parent
    place = next(
        (f" at {f.filename}:{f.lineno}" for f in reversed(frames) if torchs not in Path(f.filename).parents), ""
    )
    return f"recording it failed with {type(error).__name__}: {text}{place}"


def flatten(inputs: Any) -> tuple[list[Tensor], Hashable]:
    """The tensors in any nesting, and what else tells one input from another."""
    leaves: list[Tensor] = []

    def look(value: Any) -> Hashable:
        if isinstance(value, Tensor):
            leaves.append(value)
            return value.shape, value.dtype, value.stride(), value.device, value.requires_grad
        if isinstance(value, tuple | list):
            return type(value), *map(look, value)
        if (fields := _fields(value)) is not None:
            return type(value), *((name, look(item)) for name, item in fields.items())
        if value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | torch.device):
            return type(value), value
        raise NotRecorded(
            f"an input is a {type(value).__name__}; a recording takes tensors, numbers and text, in tuples, lists, "
            "dictionaries and dataclasses"
        )

    signature = look(inputs)
    return leaves, signature


def mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """The same nesting with every tensor replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        items = [mapped(item, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if (fields := _fields(value)) is not None:
        named = {name: mapped(item, function) for name, item in fields.items()}
        if isinstance(value, dict):
            return named
        if isinstance(value, Batch):
            return Batch(**named)
        return SimpleNamespace(**named) if isinstance(value, SimpleNamespace) else dataclasses.replace(value, **named)
    return value


def _fields(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict | Batch):
        return dict(value)
    if isinstance(value, SimpleNamespace):
        return vars(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None
