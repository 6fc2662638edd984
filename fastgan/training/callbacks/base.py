"""What a part of a training is: hooks that the trainer calls, and a state that its checkpoints keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer

HOOKS = ("on_step", "on_log", "on_error")  # that are called again and again


class Callback:
    """A part of a training, given as `Trainer(..., callbacks=[...])`. Every hook is optional, and one that a class does
    not have costs nothing.

        class Halve(Callback):
            def on_log(self, trainer, values):
                if values["generator/loss"] > 10:
                    trainer.stop("the generator's loss is above 10")

    What a hook may ask of the trainer: `trainer.stop(reason)`, `trainer.save()`, `trainer.evaluate()`. Callbacks are
    called in the order in which they were given, before the trainer's own: what they ask for is done at the end of
    the same step. What a hook raises ends the run; its last checkpoint stays.

    In a run of several processes every one of them has the callbacks and calls them at the same steps; what is asked
    for must be asked for in all of them. Only the first (`trainer.ranks.first`) keeps a moving average and writes.
    """

    @property
    def name(self) -> str:
        """What its state lies under in a checkpoint; by default the name of the class."""
        return type(self).__name__

    def on_start(self, trainer: Trainer) -> None:
        """`fit` begins."""

    def on_step(self, trainer: Trainer) -> None:
        """`trainer.step` steps are done. Anything that waits for the device here makes every step wait."""

    def on_log(self, trainer: Trainer, values: Mapping[str, float]) -> Mapping[str, float] | None:
        """Values are logged: the means since the last time, and what callbacks before this one added. Returns what is
        to be logged beside them."""
        return None

    def on_error(self, trainer: Trainer, error: Exception) -> bool:
        """Something was raised in a step. True if the trainer is in order again, at an earlier step, and goes on."""
        return False

    def on_end(self, trainer: Trainer, error: BaseException | None) -> None:
        """`fit` ends: after its last step or where it was stopped, or by `error`. Not called where it did not come to
        the end of `on_start`."""

    def state_dict(self) -> dict[str, Any]:
        """What checkpoints keep of it: tensors, numbers, text, None, and lists, tuples and dictionaries of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave. Called where a run goes on, and where it goes back to a checkpoint."""


class Hooks:
    """The hooks of the loop that callbacks have, by kind.

    TypeError for one that is no Callback, ValueError for two that would keep their state under one name."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        callbacks = list(callbacks)
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be fastgan.training.Callback objects, not {callback!r}")
        self.step, self.log, self.error = (
            [getattr(callback, hook) for callback in callbacks if _has(callback, hook)] for hook in HOOKS
        )
        self._kept: dict[str, Callback] = {}
        for callback in callbacks:
            if _has(callback, "state_dict") and self._kept.setdefault(callback.name, callback) is not callback:
                raise ValueError(
                    f"two callbacks keep a state under the name {callback.name!r}: give one of them another `name`"
                )

    def state_dict(self) -> dict[str, Any]:
        """TypeError, naming the place, for a state that a checkpoint cannot hold."""
        states = {name: callback.state_dict() for name, callback in self._kept.items()}
        for name, state in states.items():
            if not isinstance(state, dict):
                raise TypeError(f"the state of the callback {name} must be a dictionary, not {state!r}")
            _check_plain(state, f"the state of the callback {name}")
        return states

    def load_state_dict(self, states: Mapping[str, Any]) -> list[str]:
        """The names of callbacks whose state is there, but which are not."""
        for name, callback in self._kept.items():
            if name in states:
                callback.load_state_dict(states[name])
        return [name for name in states if name not in self._kept]


def _has(callback: Callback, method: str) -> bool:
    return method in vars(callback) or getattr(type(callback), method) is not getattr(Callback, method)


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise TypeError(f"{where} must have text and numbers as keys, not {key!r}")
            _check_plain(item, f"{where}, {key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}, {index}")
    elif type(value) not in (int, float, bool, str, bytes, type(None)) and not isinstance(value, Tensor):
        raise TypeError(
            f"{where} must be a tensor, a number, text, None, or a list, tuple or dictionary of them, as a checkpoint "
            f"holds nothing else, not {type(value).__module__}.{type(value).__qualname__}"
        )
