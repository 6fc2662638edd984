"""Bias and activation as one module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fastgan import backend, ops
from fastgan.reference.activation import ACTIVATIONS


class BiasAct(nn.Module):
    """clamp(act(x + bias) * gain, -clamp, clamp) of x (N, C, *), shaped as x: what follows a convolution or a linear
    layer that has no bias of its own.

    Args:
        channels: C.
        act: none, relu, leaky_relu, prelu, elu, tanh, sigmoid or silu.
        slope: negative slope of leaky_relu, alpha of elu, initial weight of prelu (one for all channels; replace
            `slope` by an nn.Parameter of shape (C,) for one a channel).
        gain: factor after the activation, > 0; sqrt(2) keeps the variance through a ReLU (He et al. 2015,
            arXiv:1502.01852).
        clamp: largest magnitude of a result; None: no limit.
        bias: have a bias; it starts at 0.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        act: str = "relu",
        slope: float = 0.2,
        *,
        gain: float = 1.0,
        clamp: float | None = None,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if act not in ACTIVATIONS:
            raise ValueError(f"BiasAct: unknown activation {act!r}; accepted: {', '.join(ACTIVATIONS)}")
        self.channels = channels
        self.act = act
        self.gain = gain
        self.clamp = clamp
        if bias:
            self.bias = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.slope: float | nn.Parameter = slope
        if act == "prelu":
            self.slope = nn.Parameter(torch.full((1,), slope, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        if not backend.traced() and (x.dim() < 2 or x.shape[1] != self.channels):
            raise ValueError(f"BiasAct takes input (N, {self.channels}, *), not shape {tuple(x.shape)}")
        return ops.bias_act(x, self.bias, act=self.act, slope=self.slope, gain=self.gain, clamp=self.clamp)

    def extra_repr(self) -> str:
        parts = [str(self.channels), f"act={self.act}"]
        if self.act in ("leaky_relu", "elu"):
            parts.append(f"slope={self.slope}")
        if self.gain != 1:
            parts.append(f"gain={self.gain}")
        if self.clamp is not None:
            parts.append(f"clamp={self.clamp}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)
