"""The complaints that several ops have in common, and when they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def checked_late(native: Callable[..., Any], check: Callable[..., None], *arguments: Any) -> Any:
    """native(*arguments), and only where that fails check(*arguments), which says in words what is wrong: compiled ops
    check everything themselves, quickly and without words, and a small layer would feel the check in Python."""
    try:
        return native(*arguments)
    except Exception as error:
        problem = error
    try:
        check(*arguments)
        raise problem
    finally:
        del problem  # whose traceback holds this frame


def check_parameter(op: str, name: str, t: Any, x: Tensor, *lengths: int) -> None:
    """`t` must be (length,) with one of `lengths`, float32 or of the dtype of x, and where x is."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor or None, not {type(t).__name__}")
    if t.dim() != 1 or all(t.shape[0] != length for length in lengths):  # torch.compile may know them as symbols
        accepted = " or ".join(f"({length},)" for length in lengths)
        raise ValueError(f"{op}: {name} has shape {tuple(t.shape)}, x has {x.shape[1]} channels; accepted: {accepted}")
    if t.dtype != x.dtype and (t.dtype != torch.float32 or x.dtype == torch.float64):
        accepted = "float64" if x.dtype == torch.float64 else "float32 or the dtype of x"
        raise TypeError(f"{op}: {name} is {t.dtype} and x is {x.dtype}; accepted: {accepted}")
    if t.device != x.device:
        raise ValueError(f"{op}: {name} is on {t.device} and x on {x.device}; move them to one device")
