"""What upsampling before a convolution and average pooling after one have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fastgan import watched
from fastgan.convolutions import merged
from fastgan.fusion.patterns import layers
from fastgan.fusion.patterns.layers import names, why_not_convolution
from fastgan.fusion.patterns.pattern import (
    BATCHED,
    UNRECORDED,
    Member,
    Miss,
    Pattern,
    Site,
    bound,
    called,
    input_of,
    name_of,
    sole_input,
)


class Resampling(NamedTuple):
    """A kind of layer that changes the size of a map: one of `kinds`, or a call of `function`."""

    kinds: tuple[type, ...]
    function: Callable[..., Tensor]
    parameters: tuple[str, ...]  # of the function, after the input

    def find(self, node: fx.Node, module: nn.Module) -> Any:
        """What stands for it in a call: a Member, or the function with its arguments. None for another step, a text
        for one that is left alone."""
        child = called(node, module)
        if child is not None:
            if not isinstance(child, self.kinds):
                return None
            if sole_input(node) is None:
                return f"the {type(child).__name__} is called with something else than one tensor"
            return layers.why_not(child, self.kinds) or Member(str(node.target))
        if node.op != "call_function" or node.target is not self.function:
            return None
        arguments = dict(zip(self.parameters, node.args[1:])) | {k: v for k, v in node.kwargs.items() if k != "input"}
        if any(isinstance(value, fx.Node) for value in pytree.tree_leaves(arguments)):
            return "its size is computed in the forward"
        return bound(self.function, arguments)


class Pair(NamedTuple):
    """A convolution and a resampling, one after the other."""

    first: fx.Node
    last: fx.Node
    convolution: fx.Node  # one of the two
    resampling: Any  # what stands for the other one in a call, or why it is left alone

    def site(
        self,
        pattern: Pattern,
        module: nn.Module,
        settings: Callable[[Any], dict[str, Any] | None],  # of a resampling
        why_not: Callable[[dict[str, Any], Any], str],  # why such settings and such a convolution are left alone
    ) -> Site | Miss:
        path, conv = str(self.convolution.target), called(self.convolution, module)
        assert conv is not None
        convolution_first = self.convolution is self.first
        text, before = f"{name_of(self.first, module)} -> {name_of(self.last, module)}", input_of(self.first)
        if isinstance(self.resampling, str):
            return Miss(path, text, self.resampling)
        if len(self.first.users) > 1:
            what = "convolution" if convolution_first else "upsampling"
            return Miss(path, text, f"the output of the {what} is used {len(self.first.users)} times")
        if reason := why_not_convolution(conv):
            return Miss(path, text, reason)
        if before is None or sole_input(self.convolution) is None:
            return Miss(path, text, "the convolution is called with something else than one tensor")
        if not self._at_once():
            return Miss(path, text, "something else runs between the two")
        is_member = isinstance(self.resampling, Member)
        resampling = module.get_submodule(self.resampling.path) if is_member else self.resampling
        if reason := why_not(settings(resampling) or {}, conv):
            return Miss(path, text, reason)
        operands = (Member(path), self.resampling) if convolution_first else (self.resampling, Member(path))
        return Site(pattern, path, text, (*operands, before), (self.first, self.last), _conditions(conv))

    def _at_once(self) -> bool:
        """The call of both stands where the first was: nothing between may see that the last comes earlier."""
        node = self.first.next
        while node is not self.last:
            if node.op != "get_attr" and node.target not in (F.interpolate, F.avg_pool2d):
                return False
            node = node.next
        return True


def is_plain(backend: str, conv: Any, x: Any) -> bool:
    """Whether conv(x) can be merged or moved, as far as the two decide."""
    return (
        type(x) is Tensor
        and layers.convolution(conv) is nn.Conv2d
        and not watched.watched(conv)
        and x.dim() == 4
        and x.dtype in merged.DTYPES
        and x.numel() > 0
        and merged.path(x.device.type, backend) != "torch"
        and x.shape[1] == conv.in_channels
    )


def fits(conv: Any, weight: Tensor, x: Tensor) -> bool:
    """Whether PyTorch has no error to give, and the weight that is there is the one that the convolution tells of."""
    tensors = (x, weight) if conv.bias is None else (x, weight, conv.bias)
    dtypes = {t.dtype for t in tensors}
    one_dtype = len(dtypes) == 1 or (torch.is_autocast_enabled("cpu") and torch.float64 not in dtypes)
    shape = (conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size)
    return one_dtype and weight.shape == shape and (conv.bias is None or conv.bias.shape == shape[:1])


def pair(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def why_not_convolved(conv: Any) -> str:
    """Why a convolution does not have the shape of those that can be merged or moved, or ""."""
    kernel = conv.kernel_size
    if conv.padding_mode != "zeros":
        return f"the convolution has padding_mode={conv.padding_mode!r}"
    if not all(size % 2 for size in kernel):
        return f"the kernel of the convolution is even: {kernel}"
    for name in ("stride", "dilation"):
        if getattr(conv, name) != (1, 1):
            return f"the convolution has {name} {getattr(conv, name)}"
    same = tuple(size // 2 for size in kernel)
    if conv.padding not in (same, "same") and not (conv.padding == "valid" and kernel == (1, 1)):
        return f"the convolution has padding {conv.padding!r}, where {same} keeps the size"
    return ""


def _conditions(conv: Any) -> tuple[str, ...]:
    common = (names(merged.DTYPES), BATCHED, UNRECORDED)
    if conv.kernel_size == (1, 1):
        return (*common, "the 1x1 convolution runs on the smaller map")
    least: dict[int, list[torch.dtype]] = {}
    for dtype, limits in merged.LEAST.items():
        least.setdefault(limits.training, []).append(dtype)
    sizes = ", ".join(f"{count:,} ({names(dtypes)})" for count, dtypes in least.items())
    return (*common, f"where it pays: smaller maps of about N H W = {sizes} or more")
