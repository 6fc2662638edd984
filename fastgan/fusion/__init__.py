"""Fused layers for a network that exists already: `fuse`, `unfuse` and `explain`."""

from __future__ import annotations

import functools
import warnings
from typing import TypeVar

from torch import nn

from fastgan import backend as _backend
from fastgan.fusion import rewrite, sigmoid
from fastgan.fusion.classes import fused_below
from fastgan.fusion.explain import Report, Row, explain
from fastgan.fusion.plans import Plans

__all__ = ["Report", "Row", "explain", "fuse", "unfuse"]

M = TypeVar("M", bound=nn.Module)


def fuse(module: M, *, backend: str = "auto") -> M:
    """Replaces norms with the activation after them, and activations after a convolution, in `module` and everything
    in it by one op, where that computes the same.

    The module stays the same object with the same submodules, parameters, `state_dict` keys and hooks; only the class
    of a module in which something was found becomes a subclass of itself. Settings that change later (train and eval,
    eps, momentum, slopes, hooks, replaced or added children, `.to(...)`) take effect as before. `explain` tells what
    was fused and why something was not; `unfuse` gives the classes back, for example before `torch.jit.script`.
    Fusing again looks at the module anew: after children were added, and after a function that a forward calls was
    patched, which is the one change that is not noticed.

    Args:
        module: any network. A forward that torch.fx cannot trace is left as it is, the modules in it are visited.
        backend: auto, native or torch, handed on to the ops. With auto, PyTorch's own modules run where no
            faster kernel is usable.

    Returns:
        `module`.

    Raises:
        TypeError: `module` is not a torch.nn.Module.
        ValueError: an unknown backend.

    Warns:
        UserWarning: there are no compiled kernels, once a process; `module` is a discriminator that ends in a Sigmoid,
            which a loss of logits does not want.
    """
    module = fused(module, backend)
    if backend == "auto":
        _warn_without_kernels()
    return module


def fused(module: M, backend: str = "auto") -> M:
    """What `fuse` does, of a network whose owner says elsewhere that there are no kernels."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"fuse takes a torch.nn.Module and returns it, not {type(module).__name__}")
    _backend.wanted(backend)
    plans = Plans(module)
    if (ending := sigmoid.trailing(plans)) and ending.certain:
        warnings.warn(f"fuse: {ending.advice}" + (f" ({ending.path})" if ending.path else ""), stacklevel=3)
    rewrite.undo_others(plans)
    for plan in plans:
        if plan.sites:
            rewrite.apply(plan, backend)
    return module


@functools.cache
def _warn_without_kernels() -> None:
    if why := _backend.no_kernels():
        warnings.warn(f"fuse: {why}. `fastgan doctor` shows what runs", stacklevel=3)


def unfuse(module: M) -> M:
    """Gives every module in `module` the class it had before `fuse`. Returns `module`.

    Raises:
        TypeError: `module` is not a torch.nn.Module.
        RuntimeError: something else has since made a subclass of a fused class and given it to a module, as
            torch.nn.utils.parametrize and FSDP do.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"unfuse takes a torch.nn.Module, not {type(module).__name__}")
    for path, child in module.named_modules():
        if fused_below(child):
            raise RuntimeError(
                f"{path or 'the module'} was fused and then given another class, {type(child).__name__} (parametrized "
                "or sharded?); undo that first, then unfuse"
            )
    for child in module.modules():
        rewrite.undo(child)
    return module
