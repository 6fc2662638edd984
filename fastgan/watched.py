"""May something else run in the place of a module, or of an operation of PyTorch's, now?

`changed` is about one module and lasts, so that `explain` tells it; `observed` is about all modules at this moment;
`watched` asks both. `operations` is for what has no module: a function that is called with tensors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as _every_module  # holds the hooks that are registered for all modules
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fastgan import backend

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WEIGHT_HOOKS = (SpectralNorm, WeightNorm)  # the older functions of torch.nn.utils: they run before a forward
# Of torch.nn's own layers, before anybody puts another one in its place.
_FORWARDS: dict[type, Any] = {
    kind: kind.forward for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)
}


def watched(module: Any) -> bool:
    """Whether `module`, a layer of torch.nn, must be called as a module now."""
    return bool(changed(module)) or observed()


def changed(module: Any) -> str:
    """Why a layer of torch.nn, parametrized or not, must be called as a module, or "": its calls are watched or its
    code is replaced. What computes the weight of a convolution is neither: whoever replaces the call runs it."""
    if (
        module._forward_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or (module._forward_pre_hooks and not _computes_weight(module))
    ):
        return "has a hook"
    if module._compiled_call_impl is not None:
        return "is compiled by itself"
    kind: Any = type(module) if type(module) in _FORWARDS else type(module).__base__
    if (
        "forward" in module.__dict__
        or type(module).forward is not _FORWARDS[kind]
        or (kind in CONVOLUTIONS and "_conv_forward" in module.__dict__)
    ):
        return "has another forward than PyTorch's"
    return ""


def observed() -> bool:
    """Whether something looks at single modules or single operations, so that these must run: hooks registered for all
    modules, and what `backend.recorded` tells of."""
    return bool(
        _every_module._global_forward_hooks
        or _every_module._global_forward_pre_hooks
        or _every_module._global_backward_hooks
        or _every_module._global_backward_pre_hooks
        or backend.recorded()
    )


def operations() -> bool:
    """Whether PyTorch's own operations must run, because something looks at each: torch.compile, which makes kernels of
    them, and what `backend.recorded` tells of. Hooks of modules see no operations."""
    return torch.compiler.is_compiling() or backend.recorded()


def _computes_weight(module: Any) -> bool:
    """Whether all that runs before the forward of a convolution computes its weight."""
    return (
        type(module) in CONVOLUTIONS
        and not module._forward_pre_hooks_with_kwargs
        and all(type(h) in _WEIGHT_HOOKS and h.name == "weight" for h in module._forward_pre_hooks.values())
    )
