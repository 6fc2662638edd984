"""Rows beside those of an earlier run: what became slower."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastgan.bench.timing import Row

# What two runs must have in common for their milliseconds to be compared.
SAME = ("processor", "threads", "cpu_capability", "torch", "python")
SLOWER = 1.05


def read(path: Path) -> dict[str, Any]:
    """What `timing.write` wrote. ValueError for another file, OSError for none."""
    try:
        run = json.loads(path.read_text())
        for row in run["rows"]:
            (row["case"], row["variant"], row["milliseconds"] + row["ratio"], row["facts"].get("failed"))
        run["machine"].get("date")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no rows of `fastgan bench --json`: {error!r}") from None
    return run


def comparison(before: dict[str, Any], all_rows: Sequence[Row], machine: dict[str, Any]) -> str:
    """A line a row: of the first variant of a case milliseconds then and now, which tell of the machine; of the others
    the ratio to the first of the same run, which a machine that is slow today leaves as it is. Marks a ratio that fell
    by over 5 % and by more than the measurements spread."""
    then = {(row["case"], row["variant"]): row for row in before["rows"] if not row["facts"].get("failed")}
    now = {(row.case, row.variant): row for row in all_rows if not row.failed}
    first = {row.case: row.variant for row in reversed(all_rows)}
    lines = [_heading(before["machine"], machine)]
    width = max((len(variant) for _, variant in now), default=0)
    case = None
    for key, row in now.items():
        if key not in then:
            continue
        if row.case != case:
            case = row.case
            lines.append(case)
        old = then[key]
        if row.variant == first[case]:
            lines.append(f"  {row.variant:<{width}}  {old['milliseconds']:.3f} -> {row.milliseconds:.3f} ms")
            continue
        least = old["ratio"] / (SLOWER + (old.get("spread", 0.0) + row.spread) / 2)
        mark = "  slower" if row.ratio < least else ""
        lines.append(f"  {row.variant:<{width}}  {old['ratio']:.2f}x -> {row.ratio:.2f}x{mark}")
    if case is None:
        lines.append("no row of this run is in the earlier one")
    if missing := len(now.keys() - then.keys()):
        lines.append(f"{missing} rows are new or failed then")
    failed_now = [row for row in all_rows if row.failed and (row.case, row.variant) in then]
    lines += [f"failed now: {row.case}, {row.variant}: {row.failed}" for row in failed_now]
    return "\n".join(lines)


def _heading(then: dict[str, Any], now: dict[str, Any]) -> str:
    line = f"against {then.get('date')}, fastgan {then.get('fastgan')} at {then.get('revision')}"
    changed = [f"{name} {then.get(name)} -> {now[name]}" for name in SAME if then.get(name) != now[name]]
    return line + (f"\nnot the same machine or versions: {'; '.join(changed)}" if changed else "")
