"""What a fused place in a forward calls: one op where that computes the same, else the modules themselves.

Everything is read from the modules at each call (flags, momentum, eps, slopes, parameters, buffers, hooks), so that
`fuse` freezes nothing that can change later. torch.compile can trace all of it without a graph break.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as _every_module  # holds the hooks that are registered for all modules

from fastgan import backend as _backend
from fastgan.nn.norm_act import apply_norm

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

# Activation -> its name in the op, and the attribute that holds its slope.
ACTIVATIONS: dict[type, tuple[str, str | None]] = {
    nn.ReLU: ("relu", None),
    nn.LeakyReLU: ("leaky_relu", "negative_slope"),
    nn.PReLU: ("prelu", "weight"),
    nn.ELU: ("elu", "alpha"),
    nn.Tanh: ("tanh", None),
    nn.Sigmoid: ("sigmoid", None),
    nn.SiLU: ("silu", None),
    nn.Identity: ("none", None),
}

_FORWARDS: dict[Any, Any] = {kind: getattr(kind, "forward") for kind in (*NORMS, *ACTIVATIONS)}  # noqa: B009


class Functional:
    """An activation written as a function call, `F.leaky_relu(z, 0.2)`, whose slope is a constant of the forward."""

    def __init__(self, name: str, slope: float, call: Callable[..., Tensor]) -> None:
        self.name, self.slope, self.call = name, slope, call

    def __call__(self, z: Tensor, *weight: Tensor) -> Tensor:
        return self.call(z, *weight)


def norm_act(backend: str, norm: Any, act: Any, x: Any, *weight: Tensor) -> Any:
    """act(norm(x), *weight), in one op where that computes the same. `weight` is that of a functional prelu."""
    kind = type(norm)
    if (
        kind not in NORMS
        or type(x) is not Tensor
        or x.dim() not in NORMS[kind]
        or changed(norm)
        or observed()
        or _backend.choose("norm_act", x.device.type, backend) == "torch"
    ):
        return act(norm(x), *weight)
    if type(act) is Functional:
        name = act.name
        slope = weight[0] if weight else act.slope
    elif type(act) in ACTIVATIONS and not changed(act):
        name, attribute = ACTIVATIONS[type(act)]
        slope = 0.0 if attribute is None else getattr(act, attribute)
    else:
        return act(norm(x), *weight)
    if name == "prelu":
        if torch.is_autocast_enabled(x.device.type):  # autocast may change the dtype of prelu alone
            return act(norm(x), *weight)
    elif type(slope) is not float and type(slope) is not int:
        return act(norm(x), *weight)
    momentum = norm.momentum
    if not (momentum is None or 0 <= momentum <= 1) or norm.eps < 0:  # PyTorch computes these, the op refuses them
        return act(norm(x), *weight)
    instance = kind in INSTANCE_NORMS
    if instance and x.size(1) != norm.num_features:  # an error or a warning, which is PyTorch's to give
        return act(norm(x), *weight)
    group = _group(norm) if kind is nn.SyncBatchNorm else None
    return apply_norm(norm, x, name, slope, instance=instance, process_group=group, backend=backend)


def changed(module: nn.Module) -> str:
    """Why a norm or an activation must be called as a module, or "": its calls are watched or its code is replaced."""
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return "has a hook"
    if module._compiled_call_impl is not None:
        return "is compiled by itself"
    if "forward" in module.__dict__ or type(module).forward is not _FORWARDS[type(module)]:
        return "has another forward than PyTorch's"
    return ""


def observed() -> bool:
    """Whether something looks at single modules or single PyTorch operations, so that these must run.

    Hooks registered for all modules; torch.jit.trace and torch.export, whose result should need PyTorch alone;
    torch.func's transforms and forward-mode differentiation, which an op with a backward of its own has no rules for.
    """
    return bool(
        _every_module._global_forward_hooks
        or _every_module._global_forward_pre_hooks
        or _every_module._global_backward_hooks
        or _every_module._global_backward_pre_hooks
        or torch._C._get_tracing_state()
        or torch.compiler.is_exporting()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _group(norm: Any) -> Any:
    """The process group over which nn.SyncBatchNorm shares its statistics, or None where it shares none."""
    if not (norm.training and dist.is_available() and dist.is_initialized()):
        return None
    group = norm.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None
