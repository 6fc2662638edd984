"""Normalisation, then an activation: the specification of `fastgan.ops.norm_act`, its fallback and its test oracle.

Batch normalisation: Ioffe and Szegedy 2015 (arXiv:1502.03167). Instance normalisation: Ulyanov et al. 2016
(arXiv:1607.08022). Both are one formula: the batch is cut into `groups` equal consecutive parts, and each channel of
each part is normalised with its own mean and variance. Batch normalisation has one group (or `splits` of them),
instance normalisation has a group for every sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fastgan.reference.activation import ACTIVATIONS

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which statistics are kept: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


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
) -> Tensor:
    """The formula, term by term. Arguments as in `fastgan.ops.norm_act`."""
    groups = (x.shape[0] if instance else splits) if training else 1
    parts = x.to(accumulation_dtype(x.dtype)).unflatten(0, (groups, -1))  # (G, N/G, C, *)
    if training:
        mean, var, count = statistics(parts, None if instance else process_group)
        update_running(running_mean, running_var, mean, var, count, momentum, instance)
    else:
        assert running_mean is not None
        assert running_var is not None
        mean, var = running_mean.to(parts.dtype)[None], running_var.to(parts.dtype)[None]

    def per_channel(t: Tensor) -> Tensor:  # (G, C) or (1, C) or (C,) -> broadcastable against parts
        return t.reshape(t.shape[0] if t.dim() > 1 else 1, 1, x.shape[1], *[1] * (x.dim() - 2))

    z = (parts - per_channel(mean)) * per_channel((var + eps).rsqrt())
    if weight is not None:
        z = z * per_channel(weight.to(z.dtype))
    if bias is not None:
        z = z + per_channel(bias.to(z.dtype))
    return ACTIVATIONS[act](z.flatten(0, 1), slope).to(x.dtype)


def statistics(parts: Tensor, process_group: ProcessGroup | None = None) -> tuple[Tensor, Tensor, int | Tensor]:
    """Mean and biased variance of each channel of each group, and the number of values behind them.

    parts: (G, N/G, C, *)   ->   mean (G, C), var (G, C), count. With a process group, over all its ranks.
    """
    over = [1, *range(3, parts.dim())]
    count = parts.shape[1] * parts[0, 0, 0].numel()
    mean = parts.mean(over)
    var = (parts - mean.reshape(*mean.shape[:1], 1, mean.shape[1], *[1] * (parts.dim() - 3))).square().mean(over)
    if process_group is None:
        return mean, var, count
    mine = mean.new_full((), count)
    total = _SumOverRanks.apply(mine, process_group)
    overall = _SumOverRanks.apply(mean * (mine / total), process_group)
    spread = (var + (mean - overall).square()) * (mine / total)
    return overall, _SumOverRanks.apply(spread, process_group), total


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks. Each rank's loss depends on every rank's tensor, so the gradient is summed
    in the same way, and that can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: ProcessGroup) -> Tensor:
        import torch.distributed as dist

        ctx.group = group
        total = tensor.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _SumOverRanks.apply(grad, ctx.group), None


def update_running(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,  # (G, C)
    var: Tensor,  # (G, C), biased
    count: int | Tensor,
    momentum: float,
    instance: bool,
) -> None:
    """One update for every group in its order; instance normalisation updates once, with the mean over the samples.

    The running variance is the unbiased one, as in PyTorch.
    """
    if running_mean is None or running_var is None:
        return
    mean, var = mean.detach(), var.detach() * (count / (count - 1))
    if instance:
        mean, var = mean.mean(0, keepdim=True), var.mean(0, keepdim=True)
    with torch.no_grad():
        for m, v in zip(mean, var):
            running_mean.lerp_(m.to(running_mean.dtype), momentum)
            running_var.lerp_(v.to(running_var.dtype), momentum)


def composed(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    *,
    act: str = "none",
    slope: float | Tensor = 0.2,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    instance: bool = False,
    splits: int = 1,
    process_group: ProcessGroup | None = None,
) -> Tensor:
    """The same function from PyTorch's own normalisations and activations: what runs where no kernel is usable."""
    shared = process_group is not None and not instance
    if shared or eps == 0:  # neither of which torch.nn.functional.batch_norm takes
        return norm_act(
            x, weight, bias, running_mean, running_var, act=act, slope=slope, training=training, momentum=momentum,
            eps=eps, instance=instance, splits=splits, process_group=process_group,
        )  # fmt: skip
    if instance:
        z = F.instance_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    elif splits == 1 or not training:
        z = F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    else:
        parts = [F.batch_norm(p, running_mean, running_var, weight, bias, True, momentum, eps) for p in x.chunk(splits)]
        z = torch.cat(parts)
    return ACTIVATIONS[act](z, slope)
