"""Ways to do the same, one of which is FastGAN's: what a variant is, said by the object and read from no name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

Role = Literal["ours", "peer", "compiled"]


@dataclass(frozen=True)
class Variant:
    """name: in tables and files.
    make: of the suite's arguments (batch, device, ...) the call that is timed, without arguments; whatever it is, stock
        modules, another library's or a loop of its own.
    role: "compiled" are peers that call torch.compile, which may hang or crash, and holds memory of its own.
    baseline: of a compiled one, the variant whose losses it must give at its first call.
    device: on which alone it runs.   slow: takes many minutes to make, and is left out unless all are asked for.
    """

    name: str
    make: Callable[..., Callable[[], Any]]
    role: Role = "peer"
    baseline: str = ""
    dtype: str = ""  # "": as the case has it
    layout: str = ""
    device: str = ""
    slow: bool = False


class Suite:
    """Variants of one case, the first of which ratios refer to. A process of its own makes one by two names: that of
    the module in which the suite is called SUITE, and the variant's."""

    def __init__(self, module: str, variants: Iterable[Variant] = ()) -> None:
        self.module = module
        self._variants = {variant.name: variant for variant in variants}

    def add(self, variant: Variant) -> Variant:
        """ValueError where there is one of that name."""
        if variant.name in self._variants:
            raise ValueError(f"there is a variant {variant.name!r} already")
        self._variants[variant.name] = variant
        return variant

    def __iter__(self) -> Any:
        return iter(self._variants.values())

    def __getitem__(self, name: str) -> Variant:
        """ValueError, with the names, where there is none."""
        if name not in self._variants:
            raise ValueError(f"no variant {name!r}; there are {', '.join(self._variants)}")
        return self._variants[name]


def find(module: str, name: str) -> Variant:
    """What a process that was given these two names is to make."""
    return import_module(module).SUITE[name]
