"""Writes the tables of figures, of speed into the README and of quality into docs/systems.md, from benchmarks/results:
python tools/figures.py"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- figures: benchmarks/results/*.json, by tools/figures.py -->"
END = "<!-- end of figures -->"


def pages() -> dict[Path, str]:
    """Every page with figures, and what stands between the marks."""
    return {ROOT / "README.md": table(), ROOT / "docs/systems.md": quality()}


def table() -> str:
    results = {}
    for name in ("step", "systems", "networks", "ops"):
        file = ROOT / f"benchmarks/results/{name}.json"
        if file.exists():
            results[name] = json.loads(file.read_text())
    parts = [WRITERS[name](result) for name, result in results.items()]
    machines = [f"{TITLES[name]}: {_machine(result['machine'])}" for name, result in results.items()]
    return "\n\n".join([*parts, *machines])


EAGER, SYSTEMS = "eager, float32 channels_last", ("fastgan, float32", "fastgan, defaults")


def _step(result: dict[str, Any]) -> str:
    rows = result["rows"]
    by = {row["variant"]: row for row in rows}
    memory = any("step MB" in row["facts"] for row in rows)
    head = ["variant", "ms", "images/s", "against the official step", *(["memory of the step, MB"] if memory else [])]
    lines = [f"{rows[0]['case']}:", "", _cells(head), "|---" * len(head) + "|"]
    for row in rows:
        bold = "**" if row["variant"] in SYSTEMS else ""
        megabytes = [_megabytes(row)] if memory else []
        if "failed" in row["facts"]:
            lines.append(_cells([row["variant"], "failed", "", "", *megabytes]))
            continue
        figures = [f"{row['milliseconds']:.0f}", f"{row['facts']['images/s']:.0f}", f"{row['ratio']:.2f}x"]
        lines.append(_cells([f"{bold}{row['variant']}{bold}", *figures, *megabytes]))
    gain = by[EAGER]["milliseconds"] / by[SYSTEMS[0]]["milliseconds"]
    lines += ["", f"In float32, {gain:.2f}x the same networks in eager channels_last; nine tenths of that step are"]
    lines += ["convolutions, in FastGAN's with fewer multiplications."]
    if "amx" not in result["machine"]["processor"]:
        lines += _step_with_amx()
    return "\n".join(lines)


def _step_with_amx() -> list[str]:
    """What an earlier version reached on a processor that this one was not measured on."""
    result = json.loads((ROOT / "benchmarks/results/step-amx.json").read_text())
    ratios = {row["variant"]: row["ratio"] for row in result["rows"]}
    ours, theirs = ratios["fastgan, defaults"], ratios["eager, bfloat16 channels_last"]
    return [
        f"On a processor with AMX, which this one has not, fastgan's defaults were {ours:.2f}x the official step and",
        f"eager bfloat16 {theirs:.2f}x (`benchmarks/results/step-amx.json`, an earlier version).",
    ]


def _systems(result: dict[str, Any]) -> str:
    """A line a system, with both dtypes, and what another processor made of it."""
    older = json.loads((ROOT / "benchmarks/results/systems-avx2.json").read_text())
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for rows, on in ((older["rows"], " with AVX2"), (result["rows"], "")):
        for row in rows:
            if row["variant"] == "fastgan":
                found.setdefault(row["case"].rsplit(",", 1)[0], {})[row["facts"]["dtype"] + on] = row
    lines = ["Steps of all systems against the same on PyTorch's own modules, channels_last; at the right on a"]
    lines += ["processor with AVX2 alone:", ""]
    columns = "float32", "bfloat16", "float32 with AVX2"
    lines += [_cells(["system", *(cell for name in columns for cell in (f"{name}, ms", ""))]), "|---" * 7 + "|"]
    for case, measured in found.items():
        cells = [case.replace(" step", "")]
        for column in columns:
            row = measured.get(column)
            cells += ["", ""] if row is None else [f"{row['milliseconds']:.0f}", f"{row['ratio']:.2f}x"]
        lines.append(_cells(cells))
    lines += ["", f"AVX2: {_machine(older['machine'])}"]
    return "\n".join(lines)


def _networks(result: dict[str, Any]) -> str:
    """A line a network and dtype: eager beside fused."""
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for row in result["rows"]:
        cases.setdefault(row["case"], {})[row["variant"]] = row
    others = sorted({name for rows in cases.values() for name in rows} - {"eager", FUSED})
    memory = any("step MB" in row["facts"] for row in result["rows"])
    head = ["network", "eager, ms", "fused, ms", "fused", *others, *(["memory eager -> fused, MB"] if memory else [])]
    lines = ["Published networks, `fastgan.fuse` against eager PyTorch of the same dtype and layout, both in a"]
    lines += ["process that keeps its memory:", ""]
    lines += [_cells(head), "|---" * len(head) + "|"]
    for case, rows in cases.items():
        eager, fused = rows["eager"], rows[FUSED]
        cells = [case, f"{eager['milliseconds']:.0f}", f"{fused['milliseconds']:.0f}", f"{fused['ratio']:.2f}x"]
        for name in others:
            row = rows.get(name)
            cells.append("" if row is None else "failed" if "failed" in row["facts"] else f"{row['ratio']:.2f}x")
        lines.append(_cells([*cells, *([f"{_megabytes(eager)} -> {_megabytes(fused)}"] if memory else [])]))
    return "\n".join(lines)


FUSED = "eager + fastgan.fuse"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _megabytes(row: dict[str, Any]) -> str:
    known = row["facts"].get("step MB")
    return "" if known is None else f"{known:.0f}"


LAYOUTS = [(d, m) for m in ("channels_last", "contiguous") for d in ("float32", "bfloat16")]


def _ops(result: dict[str, Any]) -> str:
    parts = [
        "`norm_act` with leaky ReLU, forward and backward, against `batch_norm` + `leaky_relu_`:",
        _by_shape(result, "norm_act"),
        "`bias_act` with leaky ReLU, forward and backward, against bias add + `leaky_relu_`:",
        _by_shape(result, "bias_act"),
        "(2, 4, 2, 2) has nothing to compute: it shows what a call costs.",
        "`gan_loss` of a discriminator: value, gradients and the two means that one logs, against the sequence of\n"
        "PyTorch's functions:",
        _gan_loss(result),
    ]
    return "\n\n".join(parts)


def _by_shape(result: dict[str, Any], op: str) -> str:
    cases: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for row in result["rows"]:
        if row["variant"] == "fastgan" and row["case"].startswith(op):
            *words, dtype, layout = row["case"].split()
            kind = "instance" if "instance" in words else "batch" if op == "norm_act" else "bias"
            shape = ", ".join(map(str, row["facts"]["shape"]))
            cases.setdefault((kind, shape), {})[dtype, layout] = row["ratio"]
    lines = ["| | shape | " + " | ".join(f"{d} {m}" for d, m in LAYOUTS) + " |", "|---" * 6 + "|"]
    for (kind, shape), ratios in cases.items():
        cells = (f"{ratios[c]:.2f}x" if c in ratios else "" for c in LAYOUTS)
        lines.append(f"| {kind} | {shape} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gan_loss(result: dict[str, Any]) -> str:
    lines = ["| loss | logits | dtype | |", "|---|---|---|---|"]
    for row in result["rows"]:
        if row["variant"] == "fastgan" and row["case"].startswith("gan_loss"):
            facts = row["facts"]
            shape = ", ".join(map(str, facts["shape"]))
            lines.append(f"| {facts['kind'].replace('_', ' ')} | {shape} | {facts['dtype']} | {row['ratio']:.2f}x |")
    return "\n".join(lines)


def _machine(machine: dict[str, Any]) -> str:
    return (
        f"measured {machine['date']} on {machine['processor']}, {machine['threads']} threads, "
        f"torch {machine['torch']}, fastgan {machine['fastgan']} at {machine['revision']}."
    )


def quality() -> str:
    """Modes that systems and losses cover, and the parity of DCGAN, by benchmarks/quality.py."""
    result = json.loads((ROOT / "benchmarks/results/quality.json").read_text())
    seeds = len(next(iter(result["modes"].values())))
    lines = [f"Of 1,797 samples from each of {seeds} runs with other seeds:", ""]
    lines += ["| system | digits covered | Frechet distance |", "|---|---|---|"]
    for name, runs in result["modes"].items():
        covered = ", ".join(f"{run['classes_covered']:.0f}" for run in runs)
        lines.append(_cells([f"`{name}`", covered, _spread([run["frechet"] for run in runs])]))
    lines += ["", "Modes of `ring` (8) and `grid` (25), and the share of samples within three deviations of one:", ""]
    lines += ["| loss | ring | within | grid | within |", "|---|---|---|---|---|"]
    for loss in dict.fromkeys(case.partition(" ")[2] for case in result["points"]):
        cells = [loss.replace("_", " ")]
        for data in ("ring", "grid"):
            runs = result["points"][f"{data} {loss}"]
            cells.append(", ".join(f"{run['modes_covered']:.0f}" for run in runs))
            cells.append(f"{100 * statistics.mean(run['high_quality'] for run in runs):.0f} %")
        lines.append(_cells(cells))
    of = len(next(iter(next(iter(result["parity"].values())).values())))
    lines += ["", f"Frechet distance of DCGAN, {result['steps']} steps, {of} runs each with the same seeds:", ""]
    names = list(next(iter(result["parity"].values())))
    lines += [_cells(["data", *names]), "|---" * (1 + len(names)) + "|"]
    for data, variants in result["parity"].items():
        lines.append(_cells([data, *map(_spread, variants.values())]))
    return "\n".join([*lines, "", f"Quality: {_machine(result['machine'])}"])


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


WRITERS = {"step": _step, "systems": _systems, "networks": _networks, "ops": _ops}
TITLES = {"step": "Steps", "systems": "Systems", "networks": "Networks", "ops": "Ops"}


def main() -> None:
    for page, figures in pages().items():
        before, rest = page.read_text().split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
