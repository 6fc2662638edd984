"""What a step changes on the side of Python: nothing that a recording of it would leave out, or it is put back."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.losses.lazy import Lazy

_PLAIN = (bool, int, float, str, type(None))


class Held:
    """What recordings of a step hold fixed: where its tensors lie, and the numbers in its optimizers.

    modules: all that the step may read or change.   optimizers: by the phase they belong to.   device: of the step.
    """

    def __init__(
        self, modules: Iterable[nn.Module], optimizers: dict[str, torch.optim.Optimizer], device: torch.device
    ) -> None:
        self.device = device
        self.modules = list(dict.fromkeys(part for module in modules for part in module.modules()))
        self.optimizers = optimizers
        # Slots, not tensors: `module.to()` puts other buffers into them.
        self._slots = [(slots, name) for m in self.modules for slots in (m._parameters, m._buffers) for name in slots]

    def tensors(self) -> list[Tensor]:
        """Parameters, buffers and the state of optimizers."""
        held = [tensor for slots, name in self._slots if (tensor := slots.get(name)) is not None]
        for optimizer in self.optimizers.values():
            held += [value for state in optimizer.state.values() for value in state.values() if _is_tensor(value)]
        return held

    def now(self) -> dict[str, Hashable]:
        """By name, to say what changed."""
        slots = [held.get(name) for held, name in self._slots]
        groups = [
            (phase, *(self._value(value) for name, value in group.items() if name != "params"))
            for phase, optimizer in self.optimizers.items()
            for group in optimizer.param_groups
        ]
        return {
            "the memory of a parameter or buffer": tuple(None if t is None else t.data_ptr() for t in slots),
            "requires_grad of a parameter": tuple(t is not None and t.requires_grad for t in slots),
            "the mode or the parts of a module": tuple(
                (m.training, len(m._modules), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in self.modules
            ),
            "a learning rate or another number of an optimizer": tuple(groups),
            # Loading a state makes another dictionary.
            "the state of an optimizer": tuple(_Same(optimizer.state) for optimizer in self.optimizers.values()),
            "the autocast around the step": _autocast(),
        }

    def _value(self, value: Any) -> Hashable:
        if isinstance(value, Tensor):
            # A kernel keeps a number from the CPU as it was when it was launched.
            return value.data_ptr() if value.device.type == self.device.type else value.item()
        return value if isinstance(value, Hashable) else repr(value)


class HostState:
    """What Python holds before a recording, to be compared and put back."""

    def __init__(
        self, held: Held, owners: Iterable[Any], defers: Callable[[Tensor], bool], generators: Sequence[torch.Generator]
    ) -> None:
        self._held = held
        self._fixed = held.now()
        self._states = [(optimizer, list(optimizer.state)) for optimizer in held.optimizers.values()]
        self._owners = list(dict.fromkeys([*held.modules, *owners]))
        self._plain = [_plain(owner) for owner in self._owners]
        self._tensors = [(t, t._version, t.detach().clone()) for t in held.tensors() if not defers(t)]
        self._random = random.getstate(), np.random.get_state()  # noqa: NPY002
        self._drawn: Tensor | None = None  # the state of torch's generator on the CPU before the function drew from it
        self._generators = [(generator, generator.get_state()) for generator in generators]

    def draws(self, name: str, device: torch.device) -> None:
        """To be told before the recorded function draws from a global generator of torch."""
        if device.type == "cpu" and self._drawn is None:
            self._drawn = torch.get_rng_state()

    def verify(self) -> None:
        """RuntimeError where the recorded function changed what only Python changes, which no replay would."""
        fixed = self._held.now()
        for name, value in self._fixed.items():
            if fixed[name] != value:
                raise RuntimeError(f"{name} changes in the step; change tensors in place")
        for optimizer, before in self._states:
            if list(optimizer.state) != before:
                raise RuntimeError("an optimizer made state for a parameter that had no gradient until now")
        for owner, plain in zip(self._owners, self._plain):
            for name, value in _plain(owner).items():
                if repr(plain.get(name)) != repr(value):  # nan is unlike itself
                    raise RuntimeError(
                        f"{type(owner).__name__}.{name} is a number that Python changes in the step; hold it in a "
                        "tensor on the device, changed in place"
                    )
        python, numpy = self._random
        if python != random.getstate() or str(numpy) != str(np.random.get_state()):  # noqa: NPY002
            raise RuntimeError(
                "the step, or another thread meanwhile, draws random numbers of Python or NumPy; draw them with torch, "
                "on the device"
            )
        if any(tensor._version != version for tensor, version, _ in self._tensors):
            raise RuntimeError(f"the step changes a tensor that is not on {self._held.device}; move it there")

    @torch.no_grad()
    def restore(self) -> None:
        """As it was, but for what other threads may have changed too: the random states of Python and NumPy, and of
        torch where the function did not draw. Gradients are not kept."""
        for optimizer, before in self._states:
            for parameter in [known for known in optimizer.state if known not in set(before)]:
                del optimizer.state[parameter]
            optimizer.zero_grad(set_to_none=True)
        for owner, plain in zip(self._owners, self._plain):
            for name, value in plain.items():
                if getattr(owner, name, ...) != value:
                    setattr(owner, name, value)
        for tensor, _, value in self._tensors:
            tensor.copy_(value)
        if self._drawn is not None:
            torch.set_rng_state(self._drawn)
        for generator, state in self._generators:
            generator.set_state(state)


class _Same:
    """Equal to itself alone; unlike an id, it keeps its object alive."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _plain(owner: Any) -> dict[str, Any]:
    """Its attributes that are numbers and text. `Lazy` counts for itself."""
    if isinstance(owner, Lazy):
        return {}
    return {name: value for name, value in getattr(owner, "__dict__", {}).items() if type(value) in _PLAIN}


def _autocast() -> Hashable:
    return tuple((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda"))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
