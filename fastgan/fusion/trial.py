"""What runs at each fused place of a network for an input: tried on a copy, so that nothing of the network changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fastgan import random
from fastgan.fusion import rewrite
from fastgan.fusion.classes import fused
from fastgan.fusion.patterns.pattern import Site
from fastgan.fusion.plans import Plans

Place = tuple[str, str, int]  # the path of a module, of a place in it, and the number of steps there


def run(root: nn.Module, inputs: Sequence[Any], channels_last: bool = False) -> dict[Place, str]:
    """The places at which a fused call was reached in a forward -> "" where its kernel ran, else what it was given.

    The copy shares the parameters of `root`, unless it is to be channels_last. It runs in the mode and the grad mode
    that are set. Random numbers are its own.
    """
    shared = {} if channels_last else {id(parameter): parameter for parameter in root.parameters()}
    groups = (getattr(module, "process_group", None) for module in root.modules())
    copied = copy.deepcopy(root, shared | {id(group): group for group in groups if group})
    if channels_last:
        copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = [_channels_last(value) for value in inputs]
    found: dict[Place, str] = {}
    for plan in Plans(copied):
        mark = fused(plan.module)
        if mark is None or not plan.sites:
            continue
        vars(plan.module).pop("forward", None)  # a wrapper's, which calls that of the network that was copied
        plan.found = [_watched(plan.path, site, found) for site in plan.sites]
        rewrite.apply(plan, mark.backend)
    with random.private():
        copied(*inputs)
    return found


def _watched(path: str, site: Site, found: dict[Place, str]) -> Site:
    place = path, site.path, len(site.steps)

    def call(backend: str, *operands: Any) -> Any:
        with _calls() as names:
            result = site.pattern.run(backend, *operands)
        own = site.pattern.displaced
        replaced = bool(own) and not any(own in name for name in names)
        ran = replaced or _is_ours(result) or any(not name.startswith("aten::") for name in names)
        x = next((value for value in operands if isinstance(value, Tensor) and type(value) is not nn.Parameter), None)
        if place not in found or not ran:
            found[place] = "" if ran or x is None else _kind(x)
        return result

    return replace(site, pattern=site.pattern._replace(run=call))


class _Calls(random.Mode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@contextmanager
def _calls() -> Iterator[list[str]]:
    """The operations of the block, by name."""
    mode = _Calls()
    with random.pushed(mode):
        yield mode.names


def _is_ours(result: Any) -> bool:
    """Whether the gradient of a result is computed by an op of ours: its forward may have been PyTorch's."""
    kind = getattr(type(getattr(result, "grad_fn", None)), "_forward_cls", None)
    return kind is not None and kind.__module__.startswith("fastgan.")


def _channels_last(value: Any) -> Any:
    return (
        value.contiguous(memory_format=torch.channels_last) if isinstance(value, Tensor) and value.dim() == 4 else value
    )


def _kind(x: Tensor) -> str:
    last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    layout = "channels_last" if last else "contiguous" if x.is_contiguous() else "of another layout"
    return f"{str(x.dtype).removeprefix('torch.')} {'x'.join(map(str, x.shape))} {layout}"
