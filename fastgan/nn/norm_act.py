"""Normalisation and activation as one module."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fastgan import ops
from fastgan.reference.activation import ACTIVATIONS

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


# Equal consecutive parts that every batch here is made of: 2 where real and fake pass together.
_parts: ContextVar[int] = ContextVar("parts", default=1)


@contextmanager
def in_parts(count: int) -> Iterator[None]:
    """Inside this context every batch consists of `count` parts that have statistics of their own, but in networks
    that are compiled: torch.compile knows nothing of context variables."""
    token = _parts.set(count)
    try:
        yield
    finally:
        _parts.reset(token)


def apply_norm(
    norm: Any,  # a torch.nn batch or instance normalisation, read at every call
    x: Tensor,
    act: str,
    slope: float | Tensor,
    *,
    instance: bool,
    splits: int = 1,
    process_group: ProcessGroup | None = None,
    backend: str = "auto",
) -> Tensor:
    """What norm.forward does in torch.nn, counters and all, with the activation in the same op."""
    training, momentum = norm.training, norm.momentum
    halves = 1 if torch.compiler.is_dynamo_compiling() else _parts.get()
    weight, bias, mean, var = _tensors(norm)
    count = None
    if instance:
        training = training or not norm.track_running_stats
    elif not training:
        training = mean is None and var is None
    elif not norm.track_running_stats:
        mean = var = None
    elif (count := norm.num_batches_tracked) is not None:
        count.add_(halves)
        if momentum is None:  # the running statistics are plain averages over all batches
            if halves > 1:
                count.sub_(halves)
                raise ValueError("running statistics that are averages cannot be updated by several parts of a batch")
            momentum = 1.0 / float(count)
    if halves > 1 and not instance and training:
        splits *= halves
    try:
        return ops.norm_act(
            x, weight, bias, mean, var, act=act, slope=slope, training=training,
            momentum=0.0 if momentum is None else momentum, eps=norm.eps, instance=instance, splits=splits,
            process_group=process_group, backend=backend,
        )  # fmt: skip
    except (TypeError, ValueError):  # refused, so there was no batch
        if count is not None:
            count.sub_(halves)
        raise


def _tensors(norm: Any) -> tuple[Any, Any, Any, Any]:
    """weight, bias, running_mean and running_var; from their dictionaries, which is 2 us faster than by attribute."""
    parameters, buffers = norm._parameters, norm._buffers
    try:
        return parameters["weight"], parameters["bias"], buffers["running_mean"], buffers["running_var"]
    except KeyError:  # replaced by plain attributes: torch.nn.DataParallel, FSDP, hooks that compute a weight
        return norm.weight, norm.bias, norm.running_mean, norm.running_var


class _NormAct(_NormBase):
    """act(norm(x)) of x (N, C, *), shaped as x. Parameters and buffers are those of torch.nn's norm of that name.

    Args:
        num_features: C.
        act: none, relu, leaky_relu, prelu, elu, tanh, sigmoid or silu.
        slope: negative slope of leaky_relu, alpha of elu, initial weight of prelu (one for all channels; replace
            `slope` by an nn.Parameter of shape (C,) for one a channel).
        norm: "batch" (Ioffe and Szegedy 2015) or "instance" (Ulyanov et al. 2016).
        eps, momentum, affine: as in torch.nn.BatchNorm2d. momentum None averages over all batches seen.
        track_running_stats: keep running statistics for eval(). Default: for batch, not for instance.
        splits: equal consecutive parts of the batch that have statistics of their own.
        process_group: statistics over all its ranks, as torch.nn.SyncBatchNorm.
    """

    _ranks: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        act: str = "relu",
        slope: float = 0.2,
        *,
        norm: str = "batch",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool | None = None,
        splits: int = 1,
        process_group: ProcessGroup | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if norm not in ("batch", "instance"):
            raise ValueError(f"{type(self).__name__}: unknown norm {norm!r}; accepted: batch, instance")
        if act not in ACTIVATIONS:
            raise ValueError(f"{type(self).__name__}: unknown activation {act!r}; accepted: {', '.join(ACTIVATIONS)}")
        track = norm == "batch" if track_running_stats is None else track_running_stats
        super().__init__(num_features, eps, momentum, affine, track, device, dtype)
        self.norm = norm
        self.act = act
        self.splits = splits
        self.process_group = process_group
        self.slope: float | nn.Parameter = slope
        if act == "prelu":
            self.slope = nn.Parameter(torch.full((1,), slope, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() not in self._ranks:
            ranks = " or ".join(f"{r}-D" for r in self._ranks)
            raise ValueError(f"{type(self).__name__} takes {ranks} input (N, C, *), not shape {tuple(x.shape)}")
        return apply_norm(
            self, x, self.act, self.slope, instance=self.norm == "instance", splits=self.splits,
            process_group=self.process_group,
        )  # fmt: skip

    def __deepcopy__(self, memo: dict[int, Any]) -> _NormAct:
        memo[id(self.process_group)] = self.process_group  # it stands for connections, which nothing can copy
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__setstate__(copy.deepcopy(self.__dict__, memo))
        return copied

    def extra_repr(self) -> str:
        slope = f", slope={self.slope}" if self.act in ("leaky_relu", "elu") else ""
        splits = f", splits={self.splits}" if self.splits != 1 else ""
        return f"{super().extra_repr()}, norm={self.norm}, act={self.act}{slope}{splits}"


class NormAct1d(_NormAct):
    __doc__ = "x: (N, C) or (N, C, L).\n\n" + (_NormAct.__doc__ or "")
    _ranks = (2, 3)


class NormAct2d(_NormAct):
    __doc__ = "x: (N, C, H, W).\n\n" + (_NormAct.__doc__ or "")
    _ranks = (4,)


class NormAct3d(_NormAct):
    __doc__ = "x: (N, C, D, H, W).\n\n" + (_NormAct.__doc__ or "")
    _ranks = (5,)
