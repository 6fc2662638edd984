"""Whether anything overwrites what a step of a forward gives."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from fastgan.fusion.patterns.activations import ACTIVATIONS, WITHOUT_KERNEL, in_place
from fastgan.fusion.patterns.pattern import called, function_name

# Layers that leave what they get as it is, and give back something else.
READERS = (
    *(nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.Upsample),
    *(nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd),
)
_VIEWERS = (nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd)
_READ = {"add", "sub", "mul", "truediv", "neg", "pow", "matmul", "cat", "mean", "sum", "size", "dim", "interpolate",
         "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d", "adaptive_avg_pool2d", "conv2d", "linear"}  # fmt: skip
_VIEWED = {"view", "reshape", "flatten", "squeeze", "unsqueeze", "contiguous"}


def is_only_read(node: fx.Node, module: nn.Module) -> bool:
    """Whether nothing overwrites the result of `node`: all that uses it is in this forward, and known not to."""
    for user in node.users:
        child = called(user, module)
        if child is not None:
            if not _reads(child) and not (_views(child) and is_only_read(user, module)):
                return False
        elif user.op not in ("call_function", "call_method") or "out" in user.kwargs:
            return False
        elif user.target is getattr and user.args[1] in ("shape", "dtype", "device"):
            continue
        elif function_name(user) not in _READ and not (function_name(user) in _VIEWED and is_only_read(user, module)):
            return False
    return True


def _reads(module: nn.Module) -> bool:
    """Whether a child leaves what it gets as it is, and gives back something else."""
    kind: Any = type(module)
    if kind.forward is nn.Sequential.forward and len(module._modules):
        first = next(iter(module._modules.values()))
        return first is not None and _reads(first)
    if not kind.__module__.startswith("torch.nn."):
        return False
    if isinstance(module, (*ACTIVATIONS, *WITHOUT_KERNEL)):
        return not in_place(module) and not isinstance(module, nn.Identity)
    return isinstance(module, READERS)


def _views(module: nn.Module) -> bool:
    """Whether a child may give back what it gets, and leaves that as it is."""
    known = type(module).__module__.startswith(("torch.nn.", "fastgan.nn."))
    return known and isinstance(module, _VIEWERS) and not in_place(module)
