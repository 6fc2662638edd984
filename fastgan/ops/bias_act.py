"""Bias, activation, gain and clamp in one op."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from fastgan import backend as _backend
from fastgan.ops.checks import check_parameter, checked_late
from fastgan.reference import bias_act as reference
from fastgan.reference.activation import ACTIVATIONS

_NUMBER = {name: number for number, name in enumerate(ACTIVATIONS)}
_NAMES = tuple(ACTIVATIONS)
_ops = torch.ops.fastgan
_PLAIN = (Tensor, torch.nn.Parameter)
_PER_CHANNEL = {2: (1, -1), 3: (1, -1, 1), 4: (1, -1, 1, 1), 5: (1, -1, 1, 1, 1)}
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def bias_act(
    x: Tensor,  # (N, C, *)
    bias: Tensor | None = None,  # (C,)
    *,
    act: str = "none",
    slope: float | Tensor = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
    inplace: bool = False,
    backend: str = "auto",
) -> Tensor:
    """clamp(act(x + bias) * gain, -clamp, clamp), shaped, laid out and typed as x.

    Arithmetic is float32 inside (float64 for float64). Twice differentiable. What is kept for the backward pass is the
    result, where the derivative can be had from it, so that a layer that keeps its input for itself costs no memory;
    else x and the bias.

    Where something records or transforms single operations (torch.export, torch.onnx.export, torch.jit.trace,
    torch.func, forward-mode differentiation) it is the composition of PyTorch's own.

    Args:
        x: (N, C, *) of any rank from 2: float32, bfloat16, float16 or float64. Contiguous and channels_last tensors
            are used as they are, others are copied.
        bias: (C,), float32 or the dtype of x.
        act: none, relu, leaky_relu, prelu, elu, tanh, sigmoid or silu.
        slope: negative slope of leaky_relu; alpha of elu; for prelu the weight tensor, (1,) or (C,).
        gain: factor after the activation, > 0.
        clamp: largest magnitude of a result, > 0. None: no limit.
        inplace: x may be overwritten and returned. A permission: it is used where the derivative can be had from the
            result (none, relu, tanh, sigmoid, and leaky_relu and elu with slope >= 0; gain 1 and no clamp) and x is
            not a view that autograd follows, nor inside torch.compile and where single operations are recorded or
            transformed; elsewhere the result is a new tensor, as it is without the permission.
        backend: auto, native or torch.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, name or number.
        RuntimeError: the named backend is not usable here; `inplace` on a leaf that requires a gradient.
    """
    compiling, recorded = torch.compiler.is_compiling(), _backend.recorded()
    simple = backend == "auto" and not (inplace or compiling or recorded)
    if simple and (y := _small(x, bias, act, slope, gain, clamp)) is not None:
        return y
    device = "cpu" if not isinstance(x, Tensor) or x.is_cpu else x.device.type
    path = _backend.choose("bias_act", device, backend)
    if recorded:
        path, inplace = "torch", False
    if path == "native" and not compiling:
        return checked_late(_native, _check, x, bias, act, slope, gain, clamp, inplace)
    if not _backend.traced():
        _check(x, bias, act, slope, gain, clamp, inplace)
    return (_native if path == "native" else _composed)(x, bias, act, slope, gain, clamp, inplace and not compiling)


def _native(x, bias, act, slope, gain, clamp, inplace):
    if x.numel() == 0:
        _check(x, bias, act, slope, gain, clamp, inplace)
        return _composed(x, bias, act, slope, gain, clamp, inplace)  # PyTorch defines what comes of nothing at all
    suffices = reference.result_suffices(act, slope, gain, clamp)
    if act == "prelu":
        alpha = 0.0
        if not isinstance(slope, Tensor):
            raise TypeError  # in words by _check, like all that is wrong here
    else:
        slope, alpha = None, slope
        if not isinstance(alpha, (float, int)):
            raise TypeError
    if not x.is_contiguous() and not _is_channels_last(x):
        x, inplace = x.contiguous(), False
    inplace = inplace and suffices and gain == 1 and _may_overwrite(x, bias)
    settings = _NUMBER[act], alpha, gain, math.inf if clamp is None else clamp
    apply = _BiasAct.apply if torch.compiler.is_compiling() else _apply
    return apply(x, bias, slope, settings, suffices, inplace)


def _composed(x, bias, act, slope, gain, clamp, inplace):
    inplace = inplace and _may_overwrite(x, bias)
    return reference.composed(x, bias, act=act, slope=slope, gain=gain, clamp=clamp, inplace=inplace)


@functools.cache
def _small_below(inside: str) -> dict[torch.dtype, int]:
    """Fewer elements than these cost calls, not work; three of PyTorch's cost less than one autograd.Function's.

    inside: of `backend.using`. The environment does not change."""
    if _backend.wanted() != "auto":
        return {}
    return {torch.float32: 16384, torch.float64: 16384, torch.bfloat16: 2048, torch.float16: 2048}


def _small(x: Any, bias: Any, act: Any, slope: Any, gain: Any, clamp: Any) -> Tensor | None:
    """The usual bias and activation of a small CPU tensor, from PyTorch's ops. None for all else, what is wrong too."""
    if (
        type(x) not in _PLAIN
        or type(bias) not in _PLAIN
        or x.numel() >= _small_below(_backend.inside()).get(x.dtype, 0)
    ):
        return None
    activation, shape = reference.IN_PLACE.get(str(act)), _PER_CHANNEL.get(x.dim())
    if activation is None or shape is None or type(slope) is not float or not slope >= 0:
        return None
    if gain != 1 or clamp is not None or bias.dtype is not x.dtype or bias.dim() != 1 or bias.shape[0] != x.shape[1]:
        return None
    if not (x.is_cpu and bias.is_cpu and x.layout is torch.strided):
        return None
    return activation(x + bias.view(shape), slope)


def _may_overwrite(x: Tensor, bias: Tensor | None) -> bool:
    """Not what autograd sees through a view, which would make it rewrite the history of the base."""
    if not torch.is_grad_enabled() or not (x.requires_grad or (bias is not None and bias.requires_grad)):
        return True
    if x.is_leaf and x.requires_grad:  # PyTorch itself would say so only after x has been overwritten
        raise RuntimeError("bias_act: a leaf Variable that requires grad is being used in an in-place operation.")
    return not x._is_view()


class _BiasAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias, slope, settings, suffices, inplace):
        if inplace:
            _ops.bias_act_.default(x, bias, settings[0], settings[1])
            ctx.mark_dirty(x)
            y = x
        else:
            y = _ops.bias_act.default(x, bias, slope, *settings)
        if not suffices:
            ctx.save_for_backward(x, bias, slope)
        elif settings[0]:
            ctx.save_for_backward(y)
        ctx.settings = settings, suffices, None if bias is None else bias.dtype
        return y

    @staticmethod
    def backward(ctx, grad_y):
        settings, suffices, bias_dtype = ctx.settings
        if not suffices:
            return *_gradients_from_input(ctx, grad_y, settings), None, None, None
        act, alpha, gain, _ = settings
        y = ctx.saved_tensors[0] if act else None
        if not ctx.needs_input_grad[1]:
            bias_dtype = None
        if torch.is_grad_enabled():  # create_graph=True: this gradient will itself be differentiated
            grads = reference.gradients_from_result(
                grad_y, y, act=_NAMES[act], slope=alpha, gain=gain, bias_dtype=bias_dtype
            )
            return *grads, None, None, None, None
        if y is None:  # the derivative is the gain: grad_y is not worth a copy
            grad_x = grad_y if gain == 1 else grad_y * gain
            if bias_dtype is None:
                return grad_x, None, None, None, None, None
            grad_y = grad_y if grad_y.is_contiguous() or _is_channels_last(grad_y) else grad_y.contiguous()
        elif grad_y.stride() != y.stride():
            grad_y = torch.empty_like(y).copy_(grad_y)
        grads = _ops.bias_act_backward_from_result.default(grad_y, y, act, alpha, gain, bias_dtype)
        return grads[0] if y is not None else grad_x, None if bias_dtype is None else grads[1], None, None, None, None


# What torch.autograd.Function.apply calls in the end, without the two microseconds that it first takes to look for the
# wrappers of torch.func.
_apply = super(torch.autograd.Function, _BiasAct).apply


def _gradients_from_input(ctx: Any, grad_y: Tensor, settings: tuple) -> tuple[Tensor | None, ...]:
    """The gradients of x, bias and slope, where they were kept."""
    x, bias, slope = inputs = ctx.saved_tensors
    act, alpha, gain, clamp = settings
    if torch.is_grad_enabled():
        # Of aliases: gradients of the tensors themselves would run their hooks, and pass through x into what made it,
        # where the same bias may be once more.
        x, bias, slope = inputs = tuple(None if t is None else t[...] for t in inputs)
        y = reference.composed(
            x, bias, act=_NAMES[act], slope=alpha if slope is None else slope, gain=gain,
            clamp=None if clamp == math.inf else clamp,
        )  # fmt: skip
        wanted = [t for t in inputs if t is not None and t.requires_grad]
        found = iter(torch.autograd.grad(y, wanted, grad_y, create_graph=True))
        return tuple(next(found) if t is not None and t.requires_grad else None for t in inputs)
    if grad_y.stride() != x.stride():
        grad_y = torch.empty_like(x).copy_(grad_y)
    grads = _ops.bias_act_backward.default(grad_y, x, bias, slope, *settings)
    return tuple(grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad))


@_backend.shape_function("bias_act")
def _(x, bias, slope, act, alpha, gain, clamp):
    return torch.empty_like(x)


@_backend.shape_function("bias_act_")
def _(x, bias, act, alpha):
    return None


@_backend.shape_function("bias_act_backward_from_result")
def _(grad_y, y, act, alpha, gain, bias_dtype):
    grad_x = grad_y.new_empty(0) if y is None else torch.empty_like(y)
    return grad_x, grad_y.new_empty(0 if bias_dtype is None else grad_y.shape[1], dtype=bias_dtype or torch.float32)


@_backend.shape_function("bias_act_backward")
def _(grad_y, x, bias, slope, act, alpha, gain, clamp):
    grads = (x.new_empty(0, dtype=torch.float32) if p is None else torch.empty_like(p) for p in (bias, slope))
    return torch.empty_like(x), *grads


def _is_channels_last(x: Tensor) -> bool:
    """(N, C, *) with the channel innermost and no gaps, for any rank."""
    if x.dim() == 4:
        return x.is_contiguous(memory_format=torch.channels_last)
    return x.dim() > 2 and x.movedim(1, -1).is_contiguous()


def _check(x: Any, bias: Any, act: Any, slope: Any, gain: Any, clamp: Any, inplace: Any) -> None:
    """Every complaint that a user of bias_act can meet."""
    if not isinstance(x, Tensor):
        raise TypeError(f"bias_act: x must be a tensor (N, C, *), not {type(x).__name__}")
    if x.dtype not in _DTYPES:
        raise TypeError(f"bias_act: x is {x.dtype}; accepted: float32, bfloat16, float16, float64. Convert it first.")
    if x.layout is not torch.strided or x.is_nested:
        raise TypeError(f"bias_act: x is nested or {x.layout}; accepted: dense. Convert it first, as by to_dense().")
    if x.dim() < 2:
        raise ValueError(f"bias_act: x has shape {tuple(x.shape)}; it needs a batch and a channel dimension, (N, C, *)")
    channels = x.shape[1]
    if not isinstance(act, str) or act not in _NUMBER:
        raise ValueError(f"bias_act: unknown activation {act!r}; accepted: {', '.join(_NUMBER)}")
    if bias is not None:
        check_parameter("bias_act", "bias", bias, x, channels)
    if act == "prelu":
        if not isinstance(slope, Tensor):
            raise TypeError(f"bias_act: prelu takes its weight tensor as slope, (1,) or ({channels},), not {slope!r}")
        check_parameter("bias_act", "slope", slope, x, 1, channels)
        if bias is not None and bias.dtype != slope.dtype:
            raise TypeError(f"bias_act: bias is {bias.dtype} and slope {slope.dtype}; they must share one dtype")
    elif not isinstance(slope, (float, int)):
        raise TypeError(f"bias_act: {act} takes a number as slope, not {type(slope).__name__}")
    if not isinstance(gain, (float, int)) or not 0 < gain < math.inf:
        raise ValueError(f"bias_act: gain must be a number > 0, not {gain!r}")
    if clamp is not None and (not isinstance(clamp, (float, int)) or not clamp > 0):
        raise ValueError(f"bias_act: clamp must be a number > 0 or None, not {clamp!r}")
    if not isinstance(inplace, bool):
        raise TypeError(f"bias_act: inplace must be a bool, not {type(inplace).__name__}")
