"""Activations that are computed again in the backward pass instead of kept for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

_active: ContextVar[bool] = ContextVar("recompute", default=False)


@contextmanager
def recompute() -> Iterator[None]:
    """Forward passes in this context keep less memory for their backward pass, and compute the same.

    A convolution keeps its input for the gradient of its weight. Where that is the result of a `norm_act`, the input
    and the statistics of which are kept anyway, it is computed from these once more when the gradient is due: about
    half of the memory of a network of convolutions, norms and activations, for one more pass of `norm_act` a layer.
    `fastgan.paired` makes two passes in it, whose graphs need not exist at once.

        with fastgan.recompute():
            loss = criterion(discriminator(images))
        loss.backward()

    The results, gradients and second gradients are the same bits. Only what the compiled `norm_act` computed is
    computed again; on other paths (`fastgan doctor`), and for other layers, nothing changes. In a torch.compile'd
    network it has no effect.

    Raises (in the backward pass):
        RuntimeError: an input of the norm, or one of its parameters, was changed in place since the forward pass.
    """
    token = _active.set(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        _active.reset(token)


def active() -> bool:
    """Whether memory is to be saved here."""
    return not torch.compiler.is_dynamo_compiling() and _active.get()


class _Recipe:
    """How to compute a result again. Lives as long as the result, and as what was saved in its place."""

    def __init__(self, function: Callable[..., Tensor], inputs: tuple[Any, ...], result: Tensor) -> None:
        self.function = function
        # Not the tensors themselves: their grad_fn would keep a graph alive that is done with.
        self.inputs = tuple(value.detach() if isinstance(value, Tensor) else value for value in inputs)
        self.versions = self._versions()
        self.dtype = result.dtype
        self.version = result._version
        self.storage = StorageWeakRef(result.untyped_storage())  # its address is nobody else's as long as this lives
        self.result: weakref.ref[Tensor] | None = None

    def _versions(self) -> list[int]:
        return [value._version for value in self.inputs if isinstance(value, Tensor)]

    def __call__(self) -> Tensor:
        result = None if self.result is None else self.result()
        if result is None:
            if self._versions() != self.versions:
                raise RuntimeError(
                    "recompute: the input or a parameter of a norm_act was changed in place after the forward pass, "
                    "and its result is needed for a gradient; call backward() before the change"
                )
            with torch.no_grad():
                result = self.function(*self.inputs)
            self.result = weakref.ref(result)  # several may need it at a time
        return result


_recipes: weakref.WeakValueDictionary[int, _Recipe] = weakref.WeakValueDictionary()  # by address of the storage


def remember(result: Tensor, function: Callable[..., Tensor], inputs: tuple[Any, ...]) -> None:
    """In a `recompute` context: `result`, fresh, is function(*inputs), which keeps it from being saved."""
    if type(result) is not Tensor:
        return
    recipe = _Recipe(function, inputs, result)
    _recipes[recipe.storage.cdata] = recipe
    result._fastgan_recipe = recipe  # type: ignore[attr-defined]


_View = tuple[_Recipe, torch.Size, tuple[int, ...], int]


def _pack(saved: Tensor) -> Tensor | _View:
    if type(saved) not in (Tensor, torch.nn.Parameter) or saved.layout is not torch.strided:
        return saved
    recipe = _recipes.get(saved.untyped_storage()._cdata)
    if recipe is None or recipe.version != saved._version or recipe.dtype is not saved.dtype:
        return saved
    return recipe, saved.shape, saved.stride(), int(saved.storage_offset())


def _unpack(packed: Tensor | _View) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    recipe, shape, stride, offset = packed
    result = recipe()
    if result.shape == shape and result.stride() == stride:
        return result
    return result.as_strided(shape, stride, offset)
