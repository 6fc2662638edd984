"""Stand-ins for the modules of a network, which a trace may read and call: the network itself is only looked at.

torch.fx records a forward by patching nn.Module, and every other thread's networks with it. Here each module has a
shadow instead: an object of a subclass of its class with the same attributes, whose children are shadows, too. What is
read or called there is recorded there. A shadow's class is the module's before it was fused, and its training flag is
its own, so that nobody sees a network change that is being traced.
"""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any, Protocol

from torch import Tensor, nn

from fastgan.fusion.classes import unfused, watches_subclasses


class Untraceable(Exception):
    """The message says, in a few words, why a forward cannot be rewritten."""


class Recorder(Protocol):
    """What a trace is told of the shadows that it runs on."""

    def listens(self, code: CodeType) -> bool: ...  # to what this code reads
    def read(self, owner: nn.Module, name: str, value: Any) -> Any: ...  # gives what the reader is to see
    def parameter(self, name: str, value: Tensor) -> Any: ...  # or a buffer; gives what stands for it
    def called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


class Recording:
    """What the classes of shadows know: no shadow and no module, which would live until the next garbage collection."""

    recorder: Recorder | None = None  # while a forward is traced


class Shadows:
    """Of all modules of a network."""

    def __init__(self, root: nn.Module) -> None:
        self.recording = Recording()
        self._kinds: dict[type, type] = {}
        self._modules = list(root.modules())  # alive, so that their ids stay theirs
        self._shadows = {id(module): self._shadow(module) for module in self._modules}
        for module in self._modules:
            vars(self.of(module)).update(
                {name: self.of(value) for name, value in vars(module).items() if isinstance(value, nn.Module)},
                _modules={name: None if child is None else self.of(child) for name, child in module._modules.items()},
            )

    def of(self, module: nn.Module) -> nn.Module:
        """The shadow of a module; of one that is not part of the network, the module itself."""
        return self._shadows.get(id(module), module)

    def train(self, training: bool) -> None:
        """Sets all training flags, without any train() of the user's."""
        for shadow in self._shadows.values():
            if "training" in vars(shadow):
                vars(shadow)["training"] = training

    def _shadow(self, module: nn.Module) -> Any:
        base = unfused(type(module))
        try:
            shadow: Any = object.__new__(self._kind(base))
        except TypeError:  # an nn.Module and a list, say
            shadow = object.__new__(self._kind(base, closed=True))
        # A TorchScript module has no dictionaries of its own.
        vars(shadow).update({"_parameters": {}, "_buffers": {}}, **vars(module))
        return shadow

    def _kind(self, base: type, closed: bool = False) -> type:
        """closed: of a class that must not be subclassed in passing. It may be called, not read."""
        closed = closed or watches_subclasses(base) != ""
        if closed or base not in self._kinds:
            parent = nn.Module if closed else base
            names = {
                "__module__": base.__module__,
                "__qualname__": base.__qualname__,
                "__class__": property(lambda _: base),
                "__getattribute__": _reading(self.recording, parent, closed),
                "__call__": _calling(self.recording),
            }
            if hasattr(parent, "__del__"):
                names["__del__"] = lambda _: None
            self._kinds[base] = type(parent)(base.__name__, (parent,), names)
        return self._kinds[base]


def _reading(recording: Recording, base: Any, closed: bool) -> Any:
    def read(shadow: nn.Module, name: str) -> Any:
        recorder = recording.recorder
        listens = recorder is not None and recorder.listens(sys._getframe(1).f_code)
        if closed and listens and name not in base.__getattribute__(shadow, "__dict__"):
            raise Untraceable(f"its forward reads .{name} of a class that watches its subclasses")
        try:
            value = base.__getattribute__(shadow, name)
        except AttributeError:
            value = base.__getattr__(shadow, name)
        if recorder is not None and isinstance(value, Tensor):
            value = recorder.parameter(name, value)
        return recorder.read(shadow, name, value) if recorder is not None and listens else value

    return read


def _calling(recording: Recording) -> Any:
    def call(shadow: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if recording.recorder is None:
            raise RuntimeError("a shadow is called outside of a trace")
        return recording.recorder.called(shadow, args, kwargs)

    return call
