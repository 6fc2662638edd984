"""The layers of torch.nn that patterns consist of, and why one of them cannot be fused."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from fastgan import watched

# Norm -> the numbers of dimensions of an input with a batch. A subclass has code of its own and is not here.
BATCH_NORMS: dict[type, tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
    nn.SyncBatchNorm: (2, 3, 4, 5),
}
INSTANCE_NORMS: dict[type, tuple[int, ...]] = {
    nn.InstanceNorm1d: (3,),
    nn.InstanceNorm2d: (4,),
    nn.InstanceNorm3d: (5,),
}
NORMS = BATCH_NORMS | INSTANCE_NORMS

# Convolution -> the number of dimensions of an input with a batch, and the function of a transposed one.
CONVOLUTIONS: dict[type, tuple[int, Callable[..., Tensor] | None]] = {
    nn.Conv1d: (3, None),
    nn.Conv2d: (4, None),
    nn.Conv3d: (5, None),
    nn.ConvTranspose1d: (3, F.conv_transpose1d),
    nn.ConvTranspose2d: (4, F.conv_transpose2d),
    nn.ConvTranspose3d: (5, F.conv_transpose3d),
}
# What may compute the weight of a convolution as a parametrization.
_PARAMETRIZATIONS: tuple[type, ...] = (parametrizations._SpectralNorm, parametrizations._WeightNorm)

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
HALF = (torch.bfloat16, torch.float16)


def names(dtypes: Iterable[torch.dtype]) -> str:
    return ", ".join(str(dtype)[6:] for dtype in dtypes)


def convolution(module: Any) -> type | None:
    """The class in CONVOLUTIONS that `module` is of, also where spectral or weight norm computes its weight."""
    kind: Any = type(module)
    if kind in CONVOLUTIONS:
        return kind
    if kind.__module__ != parametrize.__name__ or kind.__base__ not in CONVOLUTIONS:
        return None
    parametrized = module._modules["parametrizations"]._modules
    if list(parametrized) != ["weight"]:
        return None
    known = all(type(p) in _PARAMETRIZATIONS for p in parametrized["weight"]._modules.values())
    return kind.__base__ if known else None


def computed_weight(conv: Any, x: Tensor) -> Tensor:
    """The weight of a convolution that is not called, computed, where something computes it, exactly once."""
    for hook in conv._forward_pre_hooks.values():  # of the older spectral_norm and weight_norm: they set conv.weight
        hook(conv, (x,))
    return conv.weight


def is_channels_last(tensor: Any) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.dim() == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def why_not(module: nn.Module, known: Container[type]) -> str:
    """Why a layer cannot be fused, or ""."""
    kind = type(module)
    if kind not in known:
        if isinstance(module, nn.modules.lazy.LazyModuleMixin):
            return f"{kind.__name__} is not initialised; run one forward, then fuse"
        if parametrize.is_parametrized(module):
            return f"the {kind.__mro__[1].__name__} is parametrized"
        base = next((k for k in kind.__mro__ if k in known), None)
        return (
            f"{kind.__name__} is a subclass of {base.__name__} with code of its own"
            if base
            else f"no kernel for {kind.__name__}"
        )
    reason = watched.changed(module)
    return f"{kind.__name__} {reason}" if reason else ""


def why_not_convolution(conv: nn.Module) -> str:
    """Why a convolution cannot be called without its bias, or ""."""
    kind: Any = type(conv)
    if not parametrize.is_parametrized(conv) or kind.__base__ not in CONVOLUTIONS:
        return why_not(conv, CONVOLUTIONS)
    name = kind.__base__.__name__
    if list(conv.parametrizations) != ["weight"]:  # type: ignore[arg-type]
        return f"the bias of the {name} is parametrized"
    for parametrization in conv.parametrizations["weight"]:  # type: ignore[index]
        if type(parametrization) not in _PARAMETRIZATIONS:
            return (
                f"the weight of the {name} is parametrized by {type(parametrization).__name__}; "
                "of those, spectral_norm and weight_norm are fused"
            )
    reason = watched.changed(conv)
    return f"{name} {reason}" if reason else ""
