"""`tune`: times every way of computing what a network computes, side by side, and keeps the fastest."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from fastgan.convolutions import convolution, linear, merged
from fastgan.random import private
from fastgan.tuning import choices, store

LEAST_GAIN = 1.05  # over PyTorch, below which PyTorch's own way is kept
LEAST_SECONDS = 50e-6  # that a call must gain: an op in Python costs some of that
_LEAST = 2e-3  # seconds that a measurement lasts
TUNABLES = {**convolution.TUNABLES, **linear.TUNABLES, **merged.TUNABLES}


@dataclass(frozen=True)
class Measured:
    """One call of the network: what each way of computing it takes."""

    op: str
    text: str  # shapes, dtype, layout
    threads: int
    before: str  # the way that was taken until now
    choice: str  # the way that is taken from now on
    gain: float  # how many times faster than PyTorch that is
    milliseconds: dict[str, float]  # way -> median
    rejected: dict[str, str]  # way -> why it was not timed


class Report:
    """What `tune` measured: iterable, with a length, and a table when printed."""

    def __init__(self, rows: list[Measured], file: Path | None) -> None:
        self.rows, self.file = rows, file

    def __iter__(self) -> Iterator[Measured]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        if not self.rows:
            return "nothing to tune: no call of this network has more than one way"
        width = max(len(f"{row.op}  {row.text}") for row in self.rows)
        lines = []
        for row in self.rows:
            times = "  ".join(f"{name} {ms:.3f}" for name, ms in row.milliseconds.items())
            wrong = "".join(f"  {name}: {reason}" for name, reason in row.rejected.items())
            lines.append(f"{f'{row.op}  {row.text}':<{width}}  {row.choice:<6}  {row.gain:5.2f}x  ({times} ms){wrong}")
        threads = self.rows[0].threads
        kept = f"remembered in {self.file}" if self.file else "used by this process only"
        return "\n".join([*lines, f"{len(self.rows)} calls measured with {threads} threads, {kept}"])

    __repr__ = __str__


def tune(module: nn.Module, example_input: Any, *, rounds: int = 9) -> Report:
    """Measures on this machine which way of computing each layer of `module` is fastest, and remembers it.

    The module runs forward and backward once, to see which layers have several ways at which shapes. Each way is then
    timed on random data of those shapes, interleaved with PyTorch's own, which is kept unless another is faster by
    5 % and as accurate. Fused modules ask for the answer at each call, in this process and in later ones
    (the cache is for this processor, these versions of torch and fastgan, and this number of threads).

    Call it with the batch size, dtype, layout, autocast and number of threads of the training. The module stays as it
    is: parameters, gradients, buffers, training flags; so do torch's global random states.

    Args:
        module: a network, fused or to be fused.
        example_input: its input, a tensor, or a tuple of them for several arguments; or a function without arguments
            that runs the module as the training does, with as many backward passes as it likes. What else that
            function changes, such as the state of an optimizer, stays changed.
        rounds: how many times each way is timed.

    Returns:
        The measurements.

    Raises:
        TypeError: `module` is not a torch.nn.Module, or `example_input` is none of the above.
        ValueError: `rounds` is below 1.

    Warns:
        UserWarning: the cache cannot be read, and is rewritten, or cannot be written.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"tune takes a torch.nn.Module, not {type(module).__name__}")
    if isinstance(example_input, Tensor):
        example_input = (example_input,)
    if not (callable(example_input) or isinstance(example_input, tuple)):
        raise TypeError(
            "example_input is a tensor, a tuple of the module's arguments or a function without arguments, "
            f"not {type(example_input).__name__}"
        )
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    with _untouched(module, parameters=callable(example_input)):
        with private(), choices.recording() as asked, _Replaced():
            if callable(example_input):
                example_input()
            else:
                _forward_backward(module, example_input)
        with torch.autocast("cpu", enabled=False), torch.enable_grad():
            rows = {(op, key): _measure(op, key, before, rounds) for (op, key), before in asked.items()
                    if op in TUNABLES}  # fmt: skip
    found = {(op, key, row.threads): row for (op, key), row in rows.items()}
    choices.remember({question: row.choice for question, row in found.items()})
    file = None
    if found:
        file = store.write(
            {question: {"choice": row.choice, "milliseconds": row.milliseconds} for question, row in found.items()}
        )
    return Report(list(rows.values()), file)


def _forward_backward(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Without a trace in .grad; with the gradient of floating inputs, which a network behind another needs."""
    with torch.enable_grad():
        inputs = tree_map(
            lambda x: x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs
        )
        results = [y for y in tree_leaves(module(*inputs)) if isinstance(y, Tensor) and y.requires_grad]
        leaves = [x for x in tree_leaves((inputs, list(module.parameters()))) if isinstance(x, Tensor)]
        if results:
            torch.autograd.grad(
                results,
                [x for x in leaves if x.requires_grad],
                [torch.ones_like(y) for y in results],
                allow_unused=True,
            )


class _Replaced(TorchFunctionMode):
    """PyTorch's functions replaced by those that ask for a choice, as if the module were fused."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: dict[Any, Callable[..., Any]] = {}
        for tunable in TUNABLES.values():
            self.functions.update(tunable.replaces)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.functions.get(function, function)(*args, **(kwargs or {}))


def _measure(op: str, key: Any, before: str, rounds: int) -> Measured:
    with private():
        calls = TUNABLES[op].candidates(key)
    exact = calls.pop(choices.EXACT, None)
    theirs = calls[choices.TORCH]()
    truth, ulps = (exact(), 1) if exact else (theirs.double(), 64)
    rejected = {}
    for name in [name for name in calls if name != choices.TORCH]:
        if reason := _wrong(calls[name], theirs, truth, ulps):
            rejected[name] = reason
            del calls[name]
    times = _interleaved(calls, rounds)
    chosen, gain = choices.TORCH, 1.0
    for name, seconds in times.items():
        # The best moments of both count as well as the usual ones: on a busy machine the latter say little.
        best = min(times[choices.TORCH]) / min(seconds)
        ratio = min(best, statistics.median(a / b for a, b in zip(times[choices.TORCH], seconds)))
        if ratio >= max(LEAST_GAIN, gain) and min(times[choices.TORCH]) - min(seconds) >= LEAST_SECONDS:
            chosen, gain = name, ratio
    milliseconds = {name: round(1e3 * statistics.median(seconds), 4) for name, seconds in times.items()}
    text = TUNABLES[op].describe(key)
    return Measured(op, text, torch.get_num_threads(), before, chosen, gain, milliseconds, rejected)


def _wrong(call: Callable[[], Tensor], theirs: Tensor, exact: Tensor, ulps: int) -> str:
    """Why a way must not be taken, or "": an error above twice PyTorch's own, and so many units in the last
    place."""
    try:
        ours = call()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:100]
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return "another shape or dtype than PyTorch's"
    off, allowed = ((t.double() - exact).abs().max().item() for t in (ours, theirs))
    more = ulps * torch.finfo(ours.dtype).eps * exact.abs().max().item()
    return "" if off <= 2 * allowed + more else f"off by {off:.1e}, PyTorch by {allowed:.1e}"


def _interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds a call of each, by round: A B C A B C ..., so that a slow moment of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(_LEAST / max(time.perf_counter() - start, 1e-9)))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return times


@contextmanager
def _untouched(module: nn.Module, parameters: bool) -> Iterator[None]:
    """Puts back the buffers, gradients and training flags of a module, and its parameters if asked."""
    modules = list(module.modules())
    flags = [(m, m.training) for m in modules]
    buffers = [(m._buffers, dict(m._buffers)) for m in modules]
    kept = [t for _, held in buffers for t in held.values() if t is not None]
    kept += list(module.parameters()) if parameters else []
    values = [(t, t._version, t.detach().clone()) for t in kept]
    gradients = [(p, p.grad) for p in module.parameters()]
    for p, _ in gradients:
        p.grad = None
    try:
        yield
    finally:
        for m, training in flags:
            m.training = training
        for names, held in buffers:
            names.clear()
            names.update(held)
        with torch.no_grad():
            for t, version, value in values:
                if t._version != version or not torch.equal(t, value):  # batch norm's update has no version
                    t.copy_(value)
        for p, gradient in gradients:
            p.grad = gradient
