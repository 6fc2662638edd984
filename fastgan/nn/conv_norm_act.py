"""Convolution, normalisation and activation: the block that GANs are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastgan import watched
from fastgan.convolutions import convolution
from fastgan.nn.norm_act import NormAct2d
from fastgan.reference.activation import ACTIVATIONS

# Those whose derivative PyTorch takes from their result: they may overwrite what a convolution returned, which nothing
# else needs. A fresh tensor of the largest map costs more than the activation itself.
_IN_PLACE: dict[str, Callable[[Tensor, float], Tensor]] = {
    "relu": lambda z, slope: torch.relu_(z),
    "leaky_relu": F.leaky_relu_,
    "tanh": lambda z, slope: torch.tanh_(z),
    "sigmoid": lambda z, slope: torch.sigmoid_(z),
}


class _Activation(nn.Module):
    """An activation by the name that the fused ops use, `slope` as there, of a tensor that it may overwrite."""

    def __init__(self, act: str, slope: float, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if act not in ACTIVATIONS:
            raise ValueError(f"unknown activation {act!r}; accepted: {', '.join(ACTIVATIONS)}")
        self.act = act
        self.slope: float | nn.Parameter = slope
        if act == "prelu":
            self.slope = nn.Parameter(torch.full((1,), slope, device=device, dtype=dtype))

    def forward(self, z: Tensor) -> Tensor:
        if self.act in _IN_PLACE and not (self.act == "leaky_relu" and self.slope < 0):
            return _IN_PLACE[self.act](z, self.slope)  # type: ignore[arg-type]
        return ACTIVATIONS[self.act](z, self.slope)

    def extra_repr(self) -> str:
        return self.act + (f", slope={self.slope}" if self.act in ("leaky_relu", "elu") else "")


class _ConvNormAct2d(nn.Module):
    def __init__(
        self,
        conv: nn.Module,
        channels: int,
        norm: str | None,
        act: str,
        slope: float,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool | None,
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm: nn.Module
        if norm is None:
            self.norm = _Activation(act, slope, device, dtype)
        else:
            self.norm = NormAct2d(
                channels, act, slope, norm=norm, eps=eps, momentum=momentum, affine=affine,
                track_running_stats=track_running_stats, device=device, dtype=dtype,
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(_convolve(self.conv, x))


def _convolve(conv: Any, x: Tensor) -> Tensor:
    """conv(x), from the fastest library for the shape, unless something watches or replaces the calls of `conv`."""
    if (
        torch.compiler.is_compiling()
        or type(conv) not in (nn.Conv2d, nn.ConvTranspose2d)
        or conv.padding_mode != "zeros"
        or conv._forward_pre_hooks  # one that computes its weight would not run here
        or watched.watched(conv)
    ):
        return conv(x)
    arguments = x, conv.weight, conv.bias, conv.stride, conv.padding
    if conv.transposed:
        return convolution.conv_transpose2d(*arguments, conv.output_padding, conv.groups, conv.dilation)
    return convolution.conv2d(*arguments, conv.dilation, conv.groups)


class ConvNormAct2d(_ConvNormAct2d):
    """act(norm(conv(x))).   x: (N, in_channels, H, W)   ->   (N, out_channels, H', W')

    Submodules: `conv`, an nn.Conv2d (without bias by default: the norm has one), and `norm`, a NormAct2d. The
    arguments are theirs. norm=None: convolution, then activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | str | tuple[int, int] = 0,
        *,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        norm: str | None = "batch",
        act: str = "relu",
        slope: float = 0.2,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )  # fmt: skip
        super().__init__(
            conv, out_channels, norm, act, slope, eps, momentum, affine, track_running_stats, device, dtype
        )


class ConvTransposeNormAct2d(_ConvNormAct2d):
    """act(norm(conv_transpose(x))).   x: (N, in_channels, H, W)   ->   (N, out_channels, H', W')

    Submodules: `conv`, an nn.ConvTranspose2d (without bias by default: the norm has one), and `norm`, a NormAct2d.
    The arguments are theirs. norm=None: convolution, then activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        *,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        norm: str | None = "batch",
        act: str = "relu",
        slope: float = 0.2,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        conv = nn.ConvTranspose2d(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation,
            device=device, dtype=dtype,
        )  # fmt: skip
        super().__init__(
            conv, out_channels, norm, act, slope, eps, momentum, affine, track_running_stats, device, dtype
        )
