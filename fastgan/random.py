"""Random numbers that no other thread sees: torch's global generators belong to the whole process.

What FastGAN draws in a training step takes a generator of the run (`current`). Code that cannot be handed one, such as
the initialisation of weights, draws inside `private`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode

Source = Callable[[torch.device], torch.Generator | None]

_source: ContextVar[Source | None] = ContextVar("fastgan.random", default=None)


def current(device: torch.device) -> torch.Generator | None:
    """The generator that a draw on this device takes: the run's where one is being trained in this thread, else None,
    which is torch's global one. Within torch.compile, which takes no generators, None."""
    source = None if torch.compiler.is_compiling() else _source.get()
    return None if source is None else source(device)


@contextmanager
def drawing_from(source: Source | None) -> Iterator[None]:
    """Inside the block, in this thread, `current` answers what `source` does."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


@contextmanager
def private(seed: int = 0) -> Iterator[None]:
    """Inside the block whatever this thread draws by PyTorch comes from generators of its own, seeded with `seed`, as
    `torch.manual_seed(seed)` would seed the global ones, which are neither read nor moved.

    Every operation passes through Python meanwhile, some 10 us each: for what happens once, not for training steps. An
    operation that takes a generator which it was given draws from that. The dropout inside CUDA's attention and
    recurrent kernels takes none: there the device's global generator is seeded for that one operation, and put back.
    """
    generators: dict[torch.device, torch.Generator] = {}

    def generator(device: torch.device) -> torch.Generator:
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        return generators[device]

    with drawing_from(None), pushed(_Redirected(generator)):
        yield


@contextmanager
def noticed(found: Callable[[str, torch.device], None]) -> Iterator[None]:
    """Inside the block `found(name of the operation, device)` is called before this thread draws from one of torch's
    global generators. As slow as `private`."""
    with pushed(_Noticed(found)):
        yield


class Mode(TorchDispatchMode):
    """Sees each operation of one thread inside `pushed`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation imports torch._dynamo, for a second

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True


class _Drawing(Mode):
    """Sees each operation that draws random numbers of a global generator, in one thread."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        draw = _draw(func)
        if draw is None or not draw.now(args, kwargs):
            return func(*args, **kwargs)
        if draw.made_of_others:  # in inference mode they are seen before what they consist of
            with pushed(self):
                return func.decompose(*args, **kwargs)
        device = _device(args, kwargs)
        if device.type == "meta":
            return func(*args, **kwargs)
        return self.draw(draw, device, args, kwargs)

    def draw(self, draw: _Draw, device: torch.device, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError


class _Redirected(_Drawing):
    def __init__(self, generator: Callable[[torch.device], torch.Generator]) -> None:
        super().__init__()
        self.generator = generator

    def draw(self, draw: _Draw, device: torch.device, args: Any, kwargs: Any) -> Any:
        return draw(self.generator(device), args, kwargs)


class _Noticed(_Drawing):
    def __init__(self, found: Callable[[str, torch.device], None]) -> None:
        super().__init__()
        self.found = found

    def draw(self, draw: _Draw, device: torch.device, args: Any, kwargs: Any) -> Any:
        self.found(draw.name, device)
        return draw.func(*args, **kwargs)


@contextmanager
def pushed(mode: TorchDispatchMode) -> Iterator[None]:
    # Not `with mode`: beside the thread's own stack of modes, that sets flags of the module, which other threads see.
    _push_mode(mode)
    try:
        yield
    finally:
        _pop_mode()


class _Draw:
    """An operation that draws."""

    def __init__(self, func: Any) -> None:
        self.func = func
        self.name = func.overloadpacket.__name__
        self.made_of_others = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
        names = [argument.name for argument in func._schema.arguments]
        self._at = {name: names.index(name) for name in ("generator", "dropout_p", "dropout", "train") if name in names}
        self._taking = func if "generator" in self._at else _taking_a_generator(func)

    def now(self, args: Any, kwargs: Any) -> bool:
        """Whether this call draws from a global generator."""
        if self._given("generator", args, kwargs, None) is not None:
            return False
        share = self._given("dropout_p", args, kwargs, self._given("dropout", args, kwargs, 1.0))
        return bool(share) and self._given("train", args, kwargs, True) is not False

    def __call__(self, generator: torch.Generator, args: Any, kwargs: Any) -> Any:
        if self._taking is not None:
            at = self._at.get("generator", len(args))
            return self._taking(*args[:at], *args[at + 1 :], **{**kwargs, "generator": generator})
        if self.name in _WRITTEN_OUT:
            return _WRITTEN_OUT[self.name](*args, **kwargs, generator=generator)
        device = generator.device
        shared = torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
        before = shared.get_state()
        shared.manual_seed(int(torch.empty((), dtype=torch.int64, device=device).random_(generator=generator)))
        try:
            return self.func(*args, **kwargs)
        finally:
            shared.set_state(before)

    def _given(self, name: str, args: Any, kwargs: Any, default: Any) -> Any:
        at = self._at.get(name, len(args))
        return args[at] if at < len(args) else kwargs.get(name, default)


@functools.cache
def _draw(func: Any) -> _Draw | None:
    takes = any(argument.name == "generator" for argument in func._schema.arguments)
    return _Draw(func) if takes or torch.Tag.nondeterministic_seeded in func.tags else None


def _taking_a_generator(func: Any) -> Any:
    """The overload of the same operation that takes a generator, None where there is none."""
    wanted = [(argument.name, str(argument.type)) for argument in func._schema.arguments]
    packet = func.overloadpacket
    for other in (getattr(packet, name) for name in packet.overloads()):
        arguments = [(argument.name, str(argument.type)) for argument in other._schema.arguments]
        if ("generator" in dict(arguments)) and [a for a in arguments if a[0] != "generator"] == wanted:
            return other
    return None


def _native_dropout(x: Tensor, p: float, train: bool | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - p, generator=generator)
    return x * kept * (0.0 if p == 1 else 1 / (1 - p)), kept


_WRITTEN_OUT: dict[str, Callable[..., Any]] = {
    "native_dropout": _native_dropout,
    # Of torch before 2.11, which has them without a generator only.
    "rand_like": lambda x, generator, **kwargs: torch.empty_like(x, **kwargs).uniform_(generator=generator),
    "randn_like": lambda x, generator, **kwargs: torch.empty_like(x, **kwargs).normal_(generator=generator),
}


def _device(args: Any, kwargs: Any) -> torch.device:
    device = kwargs.get("device") or next((value.device for value in args if isinstance(value, Tensor)), None)
    device = torch.device("cpu" if device is None else device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
