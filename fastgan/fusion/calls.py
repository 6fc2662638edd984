"""What a fused place in a forward calls: one op where that computes the same, else the modules themselves.

Everything is read from the modules at each call (flags, momentum, eps, slopes, parameters, buffers, hooks), so that
`fuse` freezes nothing that can change later. torch.compile can trace all of it without a graph break.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from fastgan import backend as _backend
from fastgan import watched
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
PARAMETRIZATIONS: tuple[type, ...] = (parametrizations._SpectralNorm, parametrizations._WeightNorm)

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

# For the backward pass PyTorch keeps what these get, unless they overwrite it; bias_act keeps their result. Whatever
# overwrites that in the meantime would be an error of autograd's then.
KEEP_INPUT = ("leaky_relu", "elu")

UPSAMPLINGS: dict[type, str] = {nn.Upsample: "", nn.UpsamplingNearest2d: "", nn.UpsamplingBilinear2d: ""}
POOLINGS: dict[type, str] = {nn.AvgPool2d: ""}

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Functional:
    """An activation written as a function call, `F.leaky_relu(z, 0.2)`, whose slope is a constant of the forward."""

    def __init__(self, name: str, slope: float, call: Callable[..., Tensor], in_place: bool = False) -> None:
        self.name, self.slope, self.call, self.in_place = name, slope, call, in_place

    def __call__(self, z: Tensor, *weight: Tensor) -> Tensor:
        return self.call(z, *weight)


NONE = Functional("none", 0.0, lambda z: z)  # after a norm that no activation follows


def norm_act(backend: str, norm: Any, act: Any, x: Any, reader: Any, *weight: Tensor) -> Any:
    """act(norm(x), *weight), in one op where that computes the same.

    `reader` is what alone reads the result, or None: a convolution, or the tensor that it is added to. `weight` is that
    of a functional prelu.
    """
    kind = type(norm)
    if (
        kind not in NORMS
        or type(x) is not Tensor
        or x.dim() not in NORMS[kind]
        or watched.watched(norm)
        or _backend.choose("norm_act", x.device.type, backend) == "torch"
        or (named := name_and_slope(act, x, weight)) is None
    ):
        return act(norm(x), *weight)
    momentum = norm.momentum
    if not (momentum is None or 0 <= momentum <= 1) or norm.eps <= 0:  # PyTorch computes these, the op refuses them
        return act(norm(x), *weight)
    instance = kind in INSTANCE_NORMS
    if instance and x.size(1) != norm.num_features:  # an error or a warning, which is PyTorch's to give
        return act(norm(x), *weight)
    if (instance and not _keeps_layout(reader, x)) or x.dim() == 3:
        x = x.contiguous()  # as PyTorch's do, so that what takes a view of the result, or overwrites x, works as before
    group = _group(norm) if kind is nn.SyncBatchNorm else None
    try:
        return apply_norm(norm, x, *named, instance=instance, process_group=group, backend=backend)
    except (TypeError, ValueError):  # which it raises before it has changed anything; to complain is PyTorch's part
        return act(norm(x), *weight)


def _keeps_layout(reader: Any, x: Tensor) -> bool:
    """Whether what comes of a tensor shaped as x is channels_last whatever that tensor is: by a convolution whose
    weight is channels_last, or added to a tensor that is, of the same shape."""
    if isinstance(reader, Tensor):
        return reader.shape == x.shape and is_channels_last(reader)
    return reader is not None and is_channels_last(reader.weight)


def is_channels_last(tensor: Any) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.dim() == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def linear(backend: str, conv: Any, x: Any) -> Any:
    """conv(x) as a matrix product, where the kernel of a convolution covers the whole map, or a transposed one makes
    its map of single elements: the last layer of a DCGAN's discriminator, and the first of its generator."""
    if (
        type(x) is not Tensor
        or x.dim() != 4
        or x.dtype not in DTYPES
        or linear_path(x.device.type, backend) == "torch"
        or not covers(conv)
        or watched.watched(conv)
        or x.shape[2:] != ((1, 1) if conv.transposed else conv.kernel_size)
        or x.shape[1] != conv.in_channels
        or x.numel() == 0
    ):
        return conv(x)
    weight, bias, (height, width) = conv.weight, conv.bias, conv.kernel_size
    # The weight as a matrix without a copy, in the order of its memory, which the other operand or the result follows.
    last = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    if not conv.transposed:
        if not last and not x.is_contiguous():
            last = True  # one copy of the weight rather than one of the map
        if last:
            x, weight = x.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        return F.linear(x.flatten(1), weight.flatten(1), bias)[:, :, None, None]
    if bias is not None:
        bias = bias.repeat(height * width) if last else bias.repeat_interleave(height * width)
    if last:
        y = F.linear(x.flatten(1), weight.permute(0, 2, 3, 1).flatten(1).t(), bias)
        return y.unflatten(1, (height, width, conv.out_channels)).permute(0, 3, 1, 2)
    y = F.linear(x.flatten(1), weight.flatten(1).t(), bias)
    return y.unflatten(1, (conv.out_channels, height, width))


def covers(conv: Any) -> bool:
    """Whether a convolution has the shape of those whose kernel covers the map: even, of 4 or more, without padding."""
    kind = type(conv)
    if kind is nn.ConvTranspose2d:
        shaped = conv.stride == (1, 1) and conv.output_padding == (0, 0) and max(conv.kernel_size) > 1
    else:
        shaped = kind is nn.Conv2d and all(size >= 4 and size % 2 == 0 for size in conv.kernel_size)
    # A hook before its forward may be what computes its weight.
    return bool(
        shaped
        and not conv._forward_pre_hooks
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding in ((0, 0), "valid")
    )


def linear_path(device: str, backend: str = "auto") -> str:
    """ "PyTorch" where `linear` runs, on what it was measured on, else "torch": the convolution itself."""
    return "torch" if device != "cpu" or _backend.wanted(backend) == "torch" else "PyTorch"


def in_place(act: Any) -> bool:
    """Whether an activation, as a module or a Functional, overwrites what it gets."""
    return act.in_place if type(act) is Functional else bool(getattr(act, "inplace", False))


def convolution(module: Any) -> type | None:
    """The class in CONVOLUTIONS that `module` is of, also where one of PARAMETRIZATIONS computes its weight."""
    kind: Any = type(module)
    if kind in CONVOLUTIONS:
        return kind
    if kind.__module__ != parametrize.__name__ or kind.__base__ not in CONVOLUTIONS:
        return None
    parametrized = module._modules["parametrizations"]._modules
    if list(parametrized) != ["weight"]:
        return None
    known = all(type(p) in PARAMETRIZATIONS for p in parametrized["weight"]._modules.values())
    return kind.__base__ if known else None


def name_and_slope(act: Any, x: Tensor, weight: tuple[Tensor, ...]) -> tuple[str, Any] | None:
    """What the op is to be told of an activation of what comes of x, or None where the activation must be called."""
    if type(act) is Functional:
        name = act.name
        slope = weight[0] if weight else act.slope
    elif type(act) in ACTIVATIONS and not watched.changed(act):
        name, attribute = ACTIVATIONS[type(act)]
        slope = 0.0 if attribute is None else getattr(act, attribute)
    else:
        return None
    if name == "prelu":
        device = x.device.type  # autocast changes the dtype of what prelu gets, and so of what it gives
        if torch.is_autocast_enabled(device) and x.dtype is not torch.get_autocast_dtype(device):
            return None
    elif type(slope) is not float and type(slope) is not int:
        return None
    return name, slope


def _group(norm: Any) -> Any:
    """The process group over which nn.SyncBatchNorm shares its statistics, or None where it shares none."""
    if not (norm.training and dist.is_available() and dist.is_initialized()):
        return None
    group = norm.process_group or dist.group.WORLD
    return group if dist.get_world_size(group) > 1 else None
