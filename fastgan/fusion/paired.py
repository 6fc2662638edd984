"""A discriminator's pass over real and over fake images, as one where that computes the same."""

from __future__ import annotations

import copy
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.utils import _pytree as pytree

from fastgan import recomputation
from fastgan.nn.norm_act import in_parts
from fastgan.random import private

PROBED = 4  # images of each kind; batch statistics need two
LARGEST = 2**18  # elements of a float32 batch that one pass on a CPU is faster for
TOLERANCE = 1e-9  # of float64 results, relative to the largest


def paired(discriminator: nn.Module, real: Tensor, fake: Tensor, *, one_pass: bool | None = None) -> tuple[Any, Any]:
    """`discriminator(real), discriminator(fake)`, in one pass over both where that is the same function.

    In the one pass each half of the batch has its own statistics in every batch normalisation that `fastgan.fuse` or
    `fastgan.nn` provides, and the running ones are updated twice, in order. Whether it is the same is tried once for
    each kind of input, in float64 on a copy of the discriminator: where results, gradients or buffers differ
    (statistics of other layers, a power iteration a pass, activation checkpointing), there are two passes.
    `paired_reason` says why.

    Args:
        discriminator: (N, ...) -> tensors whose first dimension is N, in any nesting.
        real, fake: alike in shape, device and, but for autocast, dtype; else there are two passes.
        one_pass: None: where it is faster, which on a CPU in float32 it is for small batches only, and not within
            `fastgan.recompute`. True: where it is the same. False: never.

    Returns:
        What the two calls return.
    """
    if one_pass is None:
        one_pass = is_one_pass(discriminator, real, fake)
    elif one_pass:
        one_pass = not paired_reason(discriminator, real, fake)
    if not one_pass:
        return discriminator(real), discriminator(fake)
    with in_parts(2):
        both = discriminator(torch.cat([real, fake]))
    return _half(both, 0, len(real)), _half(both, 1, len(real))


def is_one_pass(discriminator: nn.Module, real: Tensor, fake: Tensor) -> bool:
    """Whether `paired` makes one pass over such images when it is left the choice. Where it does not, the graph of the
    real images can be freed before that of the fake ones is made."""
    return not recomputation.active() and _pays(real) and not paired_reason(discriminator, real, fake)


def _pays(real: Tensor) -> bool:
    """DCGAN's discriminator on two cores, forward and backward: 1.09x in bfloat16 at 64 images, 1.6x at 4; in float32
    1.08x at 16 images and 0.95x at 64, where two sets of activations no longer fit the cache."""
    device = real.device.type
    narrow = torch.is_autocast_enabled(device) or real.dtype in (torch.bfloat16, torch.float16)
    return device != "cpu" or narrow or real.numel() <= LARGEST


def found(discriminator: nn.Module) -> str:
    """Why the last new kind of images took two passes, "" where they took one or there were none."""
    return next(reversed(_reasons.get(discriminator, {"": ""}).values()), "")


_reasons: weakref.WeakKeyDictionary[nn.Module, dict[Any, str]] = weakref.WeakKeyDictionary()


def paired_reason(discriminator: nn.Module, real: Tensor, fake: Tensor) -> str:
    """Why `paired` makes two passes over such images, or "" where it can make one."""
    autocast = torch.is_autocast_enabled(real.device.type)  # which gives fake images its dtype, and layers theirs
    if real.shape != fake.shape or real.device != fake.device or (real.dtype != fake.dtype and not autocast):
        return "real and fake images differ in shape, dtype or device"
    if len(real) < 2:
        return "there is one image of each"
    known = _reasons.setdefault(discriminator, {})
    # What may change the answer: other code, another mode.
    kinds = tuple((type(module), module.training, len(module._forward_hooks)) for module in discriminator.modules())
    key = kinds, real.shape[1:]
    if key not in known:
        known[key] = _structure(discriminator) or _tried(discriminator, real, fake)
    return known[key]


def _structure(discriminator: nn.Module) -> str:
    for path, module in discriminator.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        old_norms = any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values())
        if module.training and (old_norms or isinstance(module, parametrizations._SpectralNorm)):
            return f"spectral normalisation moves its estimate once a pass ({path})"
        if any(hooks):
            return f"{path or 'the discriminator'} has a hook, which would see one call instead of two"
    return ""


class _Trial(NamedTuple):
    results: list[Any]
    gradients: list[Tensor]
    buffers: list[Tensor]


def _tried(discriminator: nn.Module, real: Tensor, fake: Tensor) -> str:
    """Both ways in float64 on copies, with the same random numbers, forward and backward."""
    try:
        two, one = (_trial(discriminator, real, fake, one_pass) for one_pass in (False, True))
    except Exception as error:
        return f"it could not be tried: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not _alike(two.results, one.results):
        plain = [path for path, m in discriminator.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        remedy = f"; fastgan.fuse may help, it has batch normalisation of PyTorch's ({plain[0]})" if plain else ""
        return f"one pass gives other results{remedy}"
    if not _alike(two.gradients, one.gradients, together=True):  # of a forward that runs again in backward
        return "one pass gives other gradients"
    return "" if _alike(two.buffers, one.buffers) else "one pass leaves other buffers"


def _trial(discriminator: nn.Module, real: Tensor, fake: Tensor, one_pass: bool) -> _Trial:
    groups = (getattr(module, "process_group", None) for module in discriminator.modules())
    tried = copy.deepcopy(discriminator, {id(group): group for group in groups if group}).double()
    leaves = [images[:PROBED].detach().double().requires_grad_() for images in (real, fake)]
    wanted = [*leaves, *(parameter for parameter in tried.parameters() if parameter.requires_grad)]
    count = len(leaves[0])
    with torch.enable_grad(), private(), torch.autocast(real.device.type, enabled=False):
        first, second = (leaf.clone() for leaf in leaves)  # which a layer may overwrite
        with in_parts(1 + one_pass):
            if one_pass:
                both = tried(torch.cat([first, second]))
                out = _half(both, 0, count), _half(both, 1, count)
            else:
                out = tried(first), tried(second)
        results = pytree.tree_leaves(out)
        scalars = [value.sin().sum() for value in results if value.requires_grad]
        gradients = torch.autograd.grad(torch.stack(scalars).sum(), wanted, materialize_grads=True) if scalars else ()
    return _Trial([value.detach() for value in results], list(gradients), list(tried.buffers()))


def _alike(expected: list[Any], got: list[Any], together: bool = False) -> bool:
    """together: one scale for all, which those that are zero but for rounding have none of their own to give."""
    if len(expected) != len(got) or not all(isinstance(value, Tensor) for value in (*expected, *got)):
        return False
    scales = [float(value.abs().max()) if value.numel() else 0.0 for value in expected]
    for a, b, scale in zip(expected, got, [max(scales, default=0.0)] * len(scales) if together else scales):
        if a.shape != b.shape:
            return False
        if a.numel() and not (a.double() - b.double()).abs().max() <= TOLERANCE * max(scale, 1e-9):
            return False
    return True


def _half(both: Any, number: int, length: int) -> Any:
    """One half of every tensor."""

    def part(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != 2 * length:
            raise ValueError(f"the discriminator gives {type(value).__name__}s that are not one row an image")
        return value[number * length : (number + 1) * length]

    return pytree.tree_map(part, both)
