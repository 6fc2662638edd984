"""What every loss asks of its arguments, and the words in which it complains."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def floating(tensor: Any, name: str) -> Tensor:
    """`tensor`, which has floating-point values and at least one of them."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a floating-point tensor, not {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, not {tensor.dtype}")
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty (shape {tuple(tensor.shape)}): the mean over nothing is undefined")
    return tensor


def alike(first: Any, first_name: str, second: Any, second_name: str) -> None:
    """Both as `floating`, and of one shape and device: nothing is broadcast."""
    floating(first, first_name)
    floating(second, second_name)
    if first.shape != second.shape:
        raise ValueError(
            f"{first_name} and {second_name} must have the same shape, "
            f"not {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if first.device != second.device:
        raise ValueError(f"{first_name} is on {first.device} and {second_name} on {second.device}; move one of them")


def number(value: Any, name: str, *, high: float = math.inf, below: float = math.inf) -> float:
    """`value`, a finite number of at least 0, at most `high`, less than `below`."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not (0 <= value <= high and value < below):
        accepted = "a finite number of at least 0"
        if high < math.inf:
            accepted = f"in [0, {high:g}]"
        elif below < math.inf:
            accepted = f"in [0, {below:g})"
        raise ValueError(f"{name} must be {accepted}, not {value}")
    return float(value)


def at_least_float32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float64 stays what it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
