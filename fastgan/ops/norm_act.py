"""Batch or instance normalisation, then an activation, in one op."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fastgan import backend as _backend
from fastgan import recomputation
from fastgan.ops.checks import check_parameter, checked_late
from fastgan.reference import norm_act as reference
from fastgan.reference.activation import ACTIVATIONS

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_NUMBER = {name: number for number, name in enumerate(ACTIVATIONS)}
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def norm_act(
    x: Tensor,  # (N, C, *)
    weight: Tensor | None = None,  # (C,)
    bias: Tensor | None = None,  # (C,)
    running_mean: Tensor | None = None,  # (C,)
    running_var: Tensor | None = None,  # (C,)
    *,
    act: str = "none",
    slope: float | Tensor = 0.2,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    instance: bool = False,
    splits: int = 1,
    process_group: ProcessGroup | None = None,
    backend: str = "auto",
) -> Tensor:
    """act((x - mean) / sqrt(var + eps) * weight + bias), shaped, laid out and typed as x.

    The mean and the biased variance are those of each channel over the batch (Ioffe and Szegedy 2015,
    arXiv:1502.03167) or, with `instance`, over each sample (Ulyanov et al. 2016, arXiv:1607.08022). Arithmetic and
    statistics are float32 inside (float64 for float64). Twice differentiable.

    Where something records or transforms single operations (torch.export, torch.onnx.export, torch.jit.trace,
    torch.func, forward-mode differentiation) it is the composition of PyTorch's own.

    Args:
        x: (N, C, *) of any rank from 2: float32, bfloat16, float16 or float64. Contiguous and channels_last tensors
            are used as they are, others are copied.
        weight, bias: (C,), float32 or the dtype of x.
        running_mean, running_var: (C,), float32 or the dtype of x. Updated in place when training, used otherwise.
        act: none, relu, leaky_relu, prelu, elu, tanh, sigmoid or silu.
        slope: negative slope of leaky_relu; alpha of elu; for prelu the weight tensor, (1,) or (C,).
        training: normalise with the statistics of x. False: with the running ones.
        momentum: share of the new statistics in the running ones, in [0, 1].
        eps: added to the variance, >= 0.
        instance: statistics of each sample.
        splits: cut the batch into this many equal consecutive parts with statistics of their own, and update the
            running statistics once for each, in order: the result of as many calls on the parts.
        process_group: statistics over all ranks of the group, as SyncBatchNorm.
        backend: auto, native or torch.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, name or number; one value a channel when training.
        RuntimeError: the named backend is not usable here.
    """
    device = "cpu" if not isinstance(x, Tensor) or x.is_cpu else x.device.type
    path = _backend.choose("norm_act", device, backend)
    if _backend.recorded():
        path = "torch"
    call = _new(_Call, (
        x, weight, bias, running_mean, running_var,
        act, slope, training, momentum, eps, instance, splits, process_group,
    ))  # fmt: skip
    if path == "native" and not torch.compiler.is_compiling():
        return checked_late(_native, _check, call)
    if not _backend.traced():
        _check(call)
    return _native(call) if path == "native" else _composed(call)


class _Call(NamedTuple):
    """What norm_act was called with."""

    x: Any
    weight: Any
    bias: Any
    running_mean: Any
    running_var: Any
    act: Any
    slope: Any
    training: Any
    momentum: Any
    eps: Any
    instance: Any
    splits: Any
    process_group: Any


_new = tuple.__new__  # of a named tuple: a third of the time of its own, in Python


class _How(NamedTuple):
    """What the kernels are told beside tensors, and who computes the statistics."""

    groups: int  # of samples with statistics of their own; 0: the running statistics
    momentum: float
    eps: float
    act: int
    alpha: float
    instance: bool
    in_halves: bool  # statistics that are shared, or averaged before they join the running ones, pass through Python
    process_group: ProcessGroup | None


def _native(call: _Call) -> Tensor:
    x, weight, bias, running_mean, running_var, act, slope, training, momentum, eps, instance, splits, group = call
    if not training or instance:
        group = None
    if x.numel() == 0:
        if group is not None:
            raise ValueError(f"norm_act: x {tuple(x.shape)} is empty; every rank of a process group needs a sample")
        call = call._replace(process_group=None)
        _check(call)
        return _composed(call)  # PyTorch defines what comes of nothing at all
    if not x.is_contiguous() and not _is_channels_last(x):
        x = x.contiguous()
    alpha: Any = 0.0
    if not isinstance(slope, Tensor):
        slope, alpha = None, slope
    if (act == "prelu") is (slope is None) or (training and splits != 1 and (instance or splits < 1)):
        raise ValueError  # in words by _check, like all that is wrong here
    if running_mean is not None and (running_mean.requires_grad or running_var.requires_grad):
        raise ValueError
    groups = (x.shape[0] if instance else splits) if training else 0
    in_halves = group is not None or (training and instance and running_mean is not None)
    if in_halves:  # the halves do not check the running statistics and the numbers
        _check(call._replace(x=x, process_group=group))
    how = _new(_How, (groups, momentum, eps, _NUMBER[act], alpha, instance, in_halves, group))
    if torch.compiler.is_compiling():
        return _NormAct.apply(x, weight, bias, slope, running_mean, running_var, how)
    y = _apply(x, weight, bias, slope, running_mean, running_var, how)
    if y.requires_grad and recomputation.active():
        x, weight, bias, slope, statistics = y.grad_fn.saved_tensors
        inputs = x, statistics, weight, bias, slope, how.act, how.alpha
        recomputation.remember(y, torch.ops.fastgan.norm_act_apply.default, inputs)
    return y


def _composed(call: _Call) -> Tensor:
    return reference.composed(*call[:5], **dict(zip(_Call._fields[5:], call[5:])))


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, slope, running_mean, running_var, how):
        groups, momentum, eps, act, alpha, _, in_halves, _ = how
        if in_halves:
            statistics = _statistics(x, running_mean, running_var, how)
            y = torch.ops.fastgan.norm_act_apply.default(x, statistics, weight, bias, slope, act, alpha)
        else:
            y, statistics = torch.ops.fastgan.norm_act.default(
                x, weight, bias, slope, running_mean, running_var, groups, momentum, eps, act, alpha
            )
        ctx.save_for_backward(x, weight, bias, slope, statistics)
        ctx.how = how
        return y

    @staticmethod
    def backward(ctx, grad_y):
        how = ctx.how
        if torch.is_grad_enabled():  # create_graph=True: this gradient will itself be differentiated
            return *_differentiable_backward(grad_y, ctx.saved_tensors, how), None, None, None
        x, weight, bias, slope, statistics = saved = ctx.saved_tensors
        if grad_y.stride() != x.stride():
            grad_y = torch.empty_like(x).copy_(grad_y)
        if how.process_group is None and slope is None:
            grad_x, grad_weight, grad_bias = torch.ops.fastgan.norm_act_backward.default(
                grad_y, x, statistics, weight, bias, how.groups != 0, how.act, how.alpha
            )
            grad_weight = None if weight is None else grad_weight
            grad_bias = None if bias is None else grad_bias
            return grad_x, grad_weight, grad_bias, None, None, None, None
        return *_backward_in_halves(grad_y, saved, how), None, None, None


# What torch.autograd.Function.apply calls in the end, without the two microseconds that it first takes to look for the
# wrappers of torch.func.
_apply = super(torch.autograd.Function, _NormAct).apply


_Saved = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor]  # x, weight, bias, slope, statistics


def _differentiable_backward(grad_y: Tensor, saved: _Saved, how: _How) -> list[Tensor | None]:
    """The gradient of the reference, as a differentiable function of grad_y, x and the parameters."""
    x, weight, bias, slope, statistics = saved
    # Of aliases: gradients of the tensors themselves would run their hooks, and pass through x into what made it, where
    # the same weight may be once more. Not of x.view_as(x), whose strides differ for a batch of one.
    x = x[...]
    weight, bias, slope = (None if t is None else t[...] for t in (weight, bias, slope))
    mean = var = None
    if how.groups == 0:  # the running statistics of the forward pass, which may have changed since
        dtype = next((t.dtype for t in (weight, bias) if t is not None), statistics.dtype)
        mean, var = statistics[0, 0].to(dtype), (statistics[1, 0] ** -2 - how.eps).to(dtype)
    y = reference.composed(
        x, weight, bias, mean, var, act=list(ACTIVATIONS)[how.act], slope=how.alpha if slope is None else slope,
        training=how.groups != 0, eps=how.eps, instance=how.instance, splits=1 if how.instance else max(how.groups, 1),
        process_group=how.process_group,
    )  # fmt: skip
    inputs = (x, weight, bias, slope)
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    grads = iter(torch.autograd.grad(y, wanted, grad_y, create_graph=True))
    return [next(grads) if t is not None and t.requires_grad else None for t in inputs]


def _statistics(x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, how: _How) -> Tensor:
    """Statistics of each group, [2, G, C], over all ranks of a process group; updates the running ones."""
    groups, group = how.groups, how.process_group
    moments = torch.ops.fastgan.norm_act_moments(x, groups)  # [2, G, C] float64
    mean, var = moments
    count: Any = x.numel() / (x.shape[1] * groups)
    if group is not None:
        import torch.distributed as dist

        mine = torch.cat([moments, moments.new_full((1, *mean.shape), count)])
        ranks = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(ranks, mine, group=group)
        means, variances, counts = torch.stack(ranks, 1)  # each [R, G, C]
        share = counts / counts.sum(0)
        mean = (share * means).sum(0)
        var = (share * (variances + (means - mean) ** 2)).sum(0)
        count = counts.sum(0)[0, 0]
    reference.update_running(running_mean, running_var, mean, var, count, how.momentum, how.instance)
    return torch.stack([mean, (var + how.eps).rsqrt()]).to(reference.accumulation_dtype(x.dtype))


def _backward_in_halves(grad_y: Tensor, saved: _Saved, how: _How) -> tuple[Tensor | None, ...]:
    """The backward with the sums in Python's hands: for prelu's weight, and to share them between ranks.

    The gradient of x takes the sums over all ranks, the parameters' only this rank's: DDP adds those up.
    """
    x, weight, bias, slope, statistics = saved
    arguments = grad_y, x, statistics, weight, bias, slope
    sums = torch.ops.fastgan.norm_act_backward_sums(*arguments, how.act, how.alpha)  # [3, G, C] float64
    count = x.numel() / (sums.shape[1] * sums.shape[2])
    if how.groups == 0:
        means = torch.zeros_like(sums)
    elif how.process_group is None:
        means = sums / count
    else:
        import torch.distributed as dist

        total = torch.cat([sums, sums.new_full((1, *sums.shape[1:]), count)])
        dist.all_reduce(total, group=how.process_group)
        means = total[:3] / total[3]
    grad_x = torch.ops.fastgan.norm_act_backward_apply(*arguments, means, how.act, how.alpha)

    def gradient(parameter: Tensor | None, row: Tensor) -> Tensor | None:
        if parameter is None:
            return None
        grad = row.sum(0)
        return (grad.sum(0, keepdim=True) if parameter.numel() == 1 else grad).to(parameter.dtype)

    return grad_x, gradient(weight, sums[1]), gradient(bias, sums[0]), gradient(slope, sums[2])


@_backend.shape_function("norm_act")
def _(x, weight, bias, slope, running_mean, running_var, groups, momentum, eps, act, alpha):
    statistics = x.new_empty((2, max(groups, 1), x.shape[1]), dtype=reference.accumulation_dtype(x.dtype))
    return torch.empty_like(x), statistics


@_backend.shape_function("norm_act_backward")
def _(grad_y, x, statistics, weight, bias, training, act, alpha):
    grads = (x.new_empty(0, dtype=torch.float32) if p is None else torch.empty_like(p) for p in (weight, bias))
    return torch.empty_like(x), *grads


@_backend.shape_function("norm_act_moments")
def _(x, groups):
    return x.new_empty((2, groups, x.shape[1]), dtype=torch.float64)


@_backend.shape_function("norm_act_apply")
def _(x, statistics, weight, bias, slope, act, alpha):
    return torch.empty_like(x)


@_backend.shape_function("norm_act_backward_sums")
def _(grad_y, x, statistics, weight, bias, slope, act, alpha):
    return x.new_empty((3, *statistics.shape[1:]), dtype=torch.float64)


@_backend.shape_function("norm_act_backward_apply")
def _(grad_y, x, statistics, weight, bias, slope, means, act, alpha):
    return torch.empty_like(x)


def _is_channels_last(x: Tensor) -> bool:
    """(N, C, *) with the channel innermost and no gaps, for any rank."""
    if x.dim() == 4:
        return x.is_contiguous(memory_format=torch.channels_last)
    return x.dim() > 2 and x.movedim(1, -1).is_contiguous()


def _check(call: _Call) -> None:
    """Every complaint that a user of norm_act can meet."""
    x, weight, bias, running_mean, running_var, act, slope, training, momentum, eps, instance, splits, group = call
    if not isinstance(x, Tensor):
        raise TypeError(f"norm_act: x must be a tensor (N, C, *), not {type(x).__name__}")
    if x.dtype not in _DTYPES:
        raise TypeError(f"norm_act: x is {x.dtype}; accepted: float32, bfloat16, float16, float64. Convert it first.")
    if x.layout is not torch.strided or x.is_nested:
        raise TypeError(f"norm_act: x is nested or {x.layout}; accepted: dense. Convert it first, as by to_dense().")
    shape = x.shape
    if len(shape) < 2:
        raise ValueError(f"norm_act: x has shape {tuple(shape)}; it needs a batch and a channel dimension, (N, C, *)")
    channels = shape[1]
    if not isinstance(act, str) or act not in _NUMBER:
        raise ValueError(f"norm_act: unknown activation {act!r}; accepted: {', '.join(_NUMBER)}")
    for name, t in (("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var)):
        if t is not None:
            check_parameter("norm_act", name, t, x, channels)
    if len(dtypes := {t.dtype for t in (weight, bias, running_mean, running_var) if t is not None}) > 1:
        names = " and ".join(sorted(str(d) for d in dtypes))
        raise TypeError(f"norm_act: weight, bias and running statistics are {names}; they must share one dtype")
    if act == "prelu":
        if not isinstance(slope, Tensor):
            raise TypeError(f"norm_act: prelu takes its weight tensor as slope, (1,) or ({channels},), not {slope!r}")
        check_parameter("norm_act", "slope", slope, x, 1, channels)
    elif not isinstance(slope, (float, int)):
        raise TypeError(f"norm_act: {act} takes a number as slope, not {type(slope).__name__}")
    if not isinstance(eps, (float, int)) or not eps >= 0:
        raise ValueError(f"norm_act: eps must be a number >= 0, not {eps!r}")
    if not isinstance(momentum, (float, int)) or not 0 <= momentum <= 1:
        raise ValueError(f"norm_act: momentum must be a number in [0, 1], not {momentum!r}")
    if (running_mean is None) != (running_var is None):
        raise ValueError("norm_act: give both running_mean and running_var, or neither")
    if running_mean is not None and (running_mean.requires_grad or running_var.requires_grad):
        raise ValueError("norm_act: running statistics have no gradient; give them without requires_grad")
    if not training:
        if running_mean is None:
            raise ValueError("norm_act: training=False needs running_mean and running_var")
        return
    if not isinstance(splits, int) or splits < 1:
        raise ValueError(f"norm_act: splits must be an integer >= 1, not {splits!r}")
    if splits > 1 and (instance or shape[0] % splits):
        why = "instance normalisation has no splits" if instance else f"{splits} parts do not divide it equally"
        raise ValueError(f"norm_act: splits={splits} for a batch of {shape[0]}: {why}")
    values = x.numel() // max(channels * (shape[0] if instance else splits), 1)
    if values == 1 and (instance or group is None or group.size() == 1):  # else each rank has some
        raise ValueError(
            f"norm_act: one value per channel when training, from x of shape {tuple(shape)}"
            + (f" in {splits} splits" if splits > 1 else "")
            + "; a variance needs at least two. Use a larger batch, or eval()."
        )
