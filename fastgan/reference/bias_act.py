"""Bias, activation, gain and clamp: the specification of `fastgan.ops.bias_act`, its fallback and its test oracle.

The op of this name and order comes from StyleGAN2 (Karras et al. 2020, arXiv:1912.04958); with neither gain nor clamp
it is what follows every convolution without a norm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan.reference.activation import ACTIVATIONS
from fastgan.reference.norm_act import accumulation_dtype

aten = torch.ops.aten

# Those whose derivative can be had from their result. Name -> f(z, slope), which overwrites z.
IN_PLACE: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "none": lambda z, slope: z,
    "relu": lambda z, slope: torch.relu_(z),
    "leaky_relu": lambda z, slope: F.leaky_relu_(z, slope),
    "elu": lambda z, slope: F.elu_(z, slope),
    "tanh": lambda z, slope: torch.tanh_(z),
    "sigmoid": lambda z, slope: torch.sigmoid_(z),
}

# Name -> f(grad_y, y, slope), the gradient with respect to z, from the result y. Differentiable in grad_y and y.
_GRADIENT_FROM_RESULT: dict[str, Callable[[Tensor, Tensor, Any], Tensor]] = {
    "relu": lambda grad, y, slope: aten.threshold_backward(grad, y, 0),
    "leaky_relu": lambda grad, y, slope: aten.leaky_relu_backward(grad, y, slope, True),
    "elu": lambda grad, y, slope: aten.elu_backward(grad, slope, 1.0, 1.0, True, y),
    "tanh": lambda grad, y, slope: aten.tanh_backward(grad, y),
    "sigmoid": lambda grad, y, slope: aten.sigmoid_backward(grad, y),
}


def result_suffices(act: str, slope: float | Tensor, gain: float, clamp: float | None) -> bool:
    """Whether the derivative can be had from the result, in every floating dtype.

    Leaky ReLU and ELU keep the sign of what they get only where their slope is not negative. A gain below 1 can make
    a small positive number a zero; above 1 it leaves signs alone, but not the values that the others look at. A
    clamped value and one that just reaches the clamp look the same.
    """
    if clamp is not None or act not in IN_PLACE or (act in ("leaky_relu", "elu") and not slope >= 0):
        return False
    return act == "none" or gain == 1 or (gain > 1 and act in ("relu", "leaky_relu"))


def bias_act(
    x: Tensor,  # (N, C, *)
    bias: Tensor | None = None,  # (C,)
    *,
    act: str = "none",
    slope: float | Tensor = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
) -> Tensor:
    """The formula, term by term. Arguments as in `fastgan.ops.bias_act`."""
    z = x.to(accumulation_dtype(x.dtype))
    if bias is not None:
        z = z + per_channel(bias.to(z.dtype), x)
    y = ACTIVATIONS[act](z, slope) * gain
    return (y if clamp is None else y.clamp(-clamp, clamp)).to(x.dtype)


def composed(
    x: Tensor,
    bias: Tensor | None = None,
    *,
    act: str = "none",
    slope: float | Tensor = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
    inplace: bool = False,
) -> Tensor:
    """The same function from PyTorch's own ops, at the dtype of x: what runs where no kernel is usable."""
    suffices = result_suffices(act, slope, 1.0, None)
    inplace = inplace and suffices and gain == 1 and clamp is None
    z = x
    if bias is not None:
        b = per_channel(bias.to(x.dtype), x)
        z = x.add_(b) if inplace else x + b
    # A sum is nobody else's, so that the activation may overwrite it.
    y = (IN_PLACE if suffices and (inplace or z is not x) else ACTIVATIONS)[act](z, slope)
    if gain != 1:
        y = y * gain
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    return y.clone() if y is x and not inplace else y


def gradients_from_result(
    grad_y: Tensor,
    y: Tensor | None,  # None for act none
    *,
    act: str,
    slope: float,
    gain: float,
    bias_dtype: torch.dtype | None,  # None: no gradient of the bias is wanted
) -> tuple[Tensor, Tensor | None]:
    """The gradients of x and of the bias, as differentiable functions of grad_y and of the result."""
    grad = grad_y if y is None else _GRADIENT_FROM_RESULT[act](grad_y, y, slope)
    if gain != 1:
        grad = grad * gain
    if bias_dtype is None:
        return grad, None
    return grad, grad.sum([0, *range(2, grad.dim())], dtype=accumulation_dtype(grad.dtype)).to(bias_dtype)


def per_channel(t: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), broadcastable against x (N, C, *)."""
    return t.reshape(1, -1, *[1] * (x.dim() - 2))
