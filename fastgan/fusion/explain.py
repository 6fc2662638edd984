"""What was fused, what was not, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from fastgan import strict_json
from fastgan.fusion import paired, sigmoid, trial
from fastgan.fusion.classes import fused
from fastgan.fusion.patterns.pattern import Site
from fastgan.fusion.plans import Plan, Plans

_WIDTH = 120  # columns of a printed table
_WIDEST = {"module": 32, "pattern": 46}  # longer ones are broken


@dataclass(frozen=True)
class Row:
    """One place in a network, or something to know of the whole of it."""

    path: str  # of the norm or convolution, or of the module that is left alone as a whole; "" is the network itself
    pattern: str  # what was found there: "Conv2d -> BatchNorm2d -> ReLU"
    kernel: str  # what runs in its place, "norm_act (native)"; "" where nothing does
    fused: bool  # whether it does now
    reason: str  # why not; "" where fused
    note: str = ""  # where a part of a longer pattern is fused: why not the rest
    conditions: str = ""  # when the kernel runs: device, dtypes, layouts, uses; PyTorch's own modules run else
    runs: bool | None = None  # whether the kernel runs for the example input; None without one, and where it is not met
    kind: str = "place"  # or "module", whose forward is left as it is, or "advice"


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

    @property
    def places(self) -> int:
        """How many places there are at which a pattern was found, or nearly."""
        return sum(row.kind == "place" for row in self)

    @property
    def fused(self) -> int:
        """How many of the places are fused now."""
        return sum(row.fused for row in self)

    def to_dict(self) -> dict[str, Any]:
        """{"fused": ..., "places": ..., "rows": [{"path": ..., "pattern": ..., the other fields of Row}, ...]}"""
        return {"fused": self.fused, "places": self.places, "rows": [asdict(row) for row in self]}

    def to_json(self) -> str:
        """`to_dict()` as JSON text."""
        return strict_json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        if not self.rows:
            return "nothing to fuse: no batch or instance norm, and no convolution before an activation"
        return "\n".join([*_table(self.rows), self._summary()])

    __repr__ = __str__

    def _summary(self) -> str:
        text = f"{self.fused} of {self.places} place{'' if self.places == 1 else 's'} fused"
        if any(row.runs is not None for row in self):
            text += f", {sum(bool(row.runs) for row in self)} run for this input"
        if left := sum(row.kind == "module" for row in self):
            text += f", {left} module{'' if left == 1 else 's'} left as {'it is' if left == 1 else 'they are'}"
        return text


def explain(module: nn.Module, *example_inputs: Any) -> Report:
    """A table of every place in `module` that `fuse` replaces, or nearly, with the reason where it does not.

    Before `fuse` it shows what would be fused. It looks at the module as it is now and changes nothing.

        explain(fuse(generator), torch.randn(64, 100, 1, 1))

    Args:
        module: any network.
        example_inputs: what the network is called with. A copy of it runs once, in the mode and grad mode that are set,
            and the report says at which of the fused places the kernel runs for such an input: its device, dtype,
            layout and size decide. Where more would run in channels_last, it says so.

    Raises:
        TypeError: `module` is not a torch.nn.Module.
        Exception: what the network raises for these inputs.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"explain takes a torch.nn.Module, not {type(module).__name__}")
    ran = trial.run(module, example_inputs) if example_inputs else None
    order = {path: i for i, (path, _) in enumerate(module.named_modules())}
    rows: list[Row] = []
    plans = Plans(module)
    for plan in plans:
        if plan.reason:
            rows.append(Row(plan.path, type(plan.module).__name__, "", False, plan.reason, kind="module"))
        for match in plan.found:
            path = ".".join(filter(None, (plan.path, match.path)))
            if isinstance(match, Site):
                rows.append(_row(plan, match, path, ran))
            else:
                rows.append(Row(path, match.text, "", False, match.reason))
    rows.sort(key=lambda row: order.get(row.path, len(order)))
    if ending := sigmoid.trailing(plans):
        rows.append(Row(ending.path, ending.pattern, "", False, ending.advice, kind="advice"))
    if reason := paired.found(module):
        rows.append(Row("", "paired", "", False, f"two passes over real and fake: {reason}", kind="advice"))
    if ran and (text := _layout(module, example_inputs, ran)):
        rows.append(Row("", "channels_last", "", False, text, kind="advice"))
    return Report(rows)


def _layout(module: nn.Module, inputs: Sequence[Any], ran: dict[trial.Place, str]) -> str:
    """What to do where more kernels run in another layout, or ""."""
    here = sum(not given for given in ran.values())
    if here == len(ran):
        return ""
    there = sum(not given for given in trial.run(module, inputs, channels_last=True).values())
    if there <= here:
        return ""
    return (
        f"{there} places run instead of {here} where the network and its input are channels_last: "
        "network.to(memory_format=torch.channels_last), and the same for the images"
    )


def _row(plan: Plan, site: Site, path: str, ran: dict[trial.Place, str] | None) -> Row:
    how = fused(plan.module)
    device = _device(plan.module.get_submodule(site.path), plan.module)
    backend = how.backend if how else "auto"
    chosen = site.pattern.path(device, backend)
    reason = ""
    if how is None:
        reason = "not fused yet"
    elif (site.path, len(site.steps)) not in how.places or not how.holds(plan.module):
        reason = "changed since it was fused; fuse again"
    elif chosen == "torch":
        reason = f"PyTorch's own modules run: {site.pattern.why_torch(device, how.backend)}"
    fused_now = not reason
    where = (f"on {device}", *site.conditions)
    if "forward" in vars(plan.module):
        where = (*where, "where the forward that was put in place of the object's own calls that")
    conditions = "" if chosen == "torch" else "; ".join(where)
    runs = None
    if ran is not None and not reason:
        given = ran.get((plan.path, site.path, len(site.steps)))
        runs = None if given is None else not given
        if given:
            reason = f"PyTorch's own modules run for this input: {given}"
    return Row(path, site.text, f"{site.pattern.kernel} ({chosen})", fused_now, reason, site.note, conditions, runs)


def _device(*modules: nn.Module) -> str:
    tensors = (t for m in modules for t in (*m.parameters(), *m.buffers()))
    return next((t.device.type for t in tensors), torch.get_default_device().type)


def _table(rows: Sequence[Row]) -> list[str]:
    common = _common(rows)
    head = ("module", "pattern", "fused", "kernel, or why not")
    body = [(row.path or "(itself)", row.pattern, "yes" if row.fused else "no", _remark(row, common)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body)]
    widths[:2] = (min(width, widest) for width, widest in zip(widths, _WIDEST.values()))
    widths[3] = min(widths[3], _WIDTH - sum(widths[:3]) - 2 * 3)
    lines = []
    for cells in (head, *body):
        wrapped = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(cells, widths)]
        for i in range(max(map(len, wrapped))):
            line = (cell[i] if i < len(cell) else "" for cell in wrapped)
            lines.append("  ".join(map(str.ljust, line, widths)).rstrip())
    notes: dict[str, list[str]] = {}  # conditions -> kernels
    for kernel, conditions in common.items():
        notes.setdefault("; ".join(conditions), []).append(kernel)
    for text, kernels in notes.items():
        note = f"{' and '.join(kernels)}: {text}; else PyTorch's own modules run"
        lines += textwrap.wrap(note, _WIDTH, subsequent_indent="  ")
    return lines


def _common(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Kernel -> the conditions that are the same in all of its places, which are told once, below the table."""
    common: dict[str, list[str]] = {}
    for row in rows:
        if row.conditions:
            conditions = row.conditions.split("; ")
            common[row.kernel] = [c for c in common.get(row.kernel, conditions) if c in conditions]
    return common


def _remark(row: Row, common: dict[str, list[str]]) -> str:
    if row.kind == "advice":
        return row.reason
    if row.kind == "module":
        return f"its forward stays as it is: {row.reason}"
    note = f", the norm alone: {row.note}" if row.note else ""
    own = [c for c in row.conditions.split("; ") if c not in common.get(row.kernel, [])]
    return "; ".join(filter(None, (row.kernel + note, *own, row.reason)))
