"""What was fused, what was not, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from fastgan import backend as _backend
from fastgan.fusion import rewrite
from fastgan.fusion.patterns import Site


@dataclass(frozen=True)
class Row:
    """One place in a network."""

    path: str  # of the norm, or of the module that is left alone as a whole; "" is the network itself
    pattern: str  # what was found there: "Conv2d -> BatchNorm2d -> ReLU"
    kernel: str  # what runs in its place, "norm_act (native)"; "" where nothing does
    fused: bool  # whether it does now
    reason: str  # why not; "" where fused


class Report:
    """The rows of `fastgan.explain`: iterable, with a length, and a table when printed."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, path: str) -> Row:
        """The first row with this path."""
        for row in self.rows:
            if row.path == path:
                return row
        raise KeyError(f"nothing at {path!r}; there are rows for {', '.join(repr(row.path) for row in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """{"fused": how many places are, "rows": [{"path": ..., "pattern": ..., ...}, ...]}"""
        return {"fused": sum(row.fused for row in self), "rows": [asdict(row) for row in self]}

    def __str__(self) -> str:
        if not self.rows:
            return "nothing to fuse: no batch or instance norm is followed by an activation"
        head = ("module", "pattern", "fused", "kernel, or why not")
        body = [
            (
                row.path or "(itself)",
                row.pattern,
                "yes" if row.fused else "no",
                "; ".join(filter(None, (row.kernel, row.reason))),
            )
            for row in self
        ]
        widths = [max(map(len, column)) for column in zip(head, *body)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in (head, *body))

    __repr__ = __str__


def explain(module: nn.Module) -> Report:
    """A table of every place in `module` that `fuse` replaces, or nearly, with the reason where it does not.

    Before `fuse` it shows what would be fused. It looks at the module as it is now and changes nothing.

    Raises:
        TypeError: `module` is not a torch.nn.Module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"explain takes a torch.nn.Module, got {type(module).__name__}")
    order = {path: i for i, (path, _) in enumerate(module.named_modules())}
    rows: list[Row] = []
    for plan in rewrite.plans(module):
        if plan.reason:
            rows.append(Row(plan.path, type(plan.module).__name__, "", False, plan.reason))
        for match in plan.found:
            path = ".".join(filter(None, (plan.path, match.path)))
            if isinstance(match, Site):
                rows.append(_row(plan, match, path))
            else:
                rows.append(Row(path, match.pattern, "", False, match.reason))
    return Report(sorted(rows, key=lambda row: order.get(row.path, len(order))))


def _row(plan: rewrite.Plan, site: Site, path: str) -> Row:
    fused = rewrite.fused(plan.module)
    device = _device(plan.module.get_submodule(site.path), plan.module)
    chosen = _backend.choose(site.kernel, device, fused.backend if fused else "auto")
    reason = ""
    if fused is None:
        reason = "not fused yet"
    elif site.path not in fused.paths or not fused.holds(plan.module):
        reason = "changed since it was fused; fuse again"
    elif chosen == "torch":
        reason = f"PyTorch's own modules run: {_backend.library(device).reason or 'the backend is torch'}"
    return Row(path, site.pattern, f"{site.kernel} ({chosen})", not reason, reason)


def _device(*modules: nn.Module) -> str:
    tensors = (t for m in modules for t in (*m.parameters(), *m.buffers()))
    return next((t.device.type for t in tensors), torch.get_default_device().type)
