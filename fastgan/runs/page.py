"""A run as one HTML page that needs no other file: curves, samples over time, events, quality, settings, versions."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import statistics
from pathlib import Path
from typing import Any

from PIL import Image

from fastgan.messages import duration
from fastgan.runs.config import GRACE, hold
from fastgan.runs.curves import Line, chart
from fastgan.runs.run import Run

GRIDS = 8  # pictures of samples
SIDE = 640  # pixels that a picture has at most
EVENTS = 200  # lines of the log, the last ones
SPEED = ("images_per_second", "data_wait")
SHARES = ("real", "fake", "real_right", "fake_right")  # D(x), D(G(z)) and what is told right, where they are in 0..1
SHARED = "real and generated"
LABELS = {"real": "D(x)", "fake": "D(G(z))"}
RECENT = 10  # lines of values that tell how a run is now

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #5b6570; --line: #dfe3e8; --warn: #9a4b00;
  --c0: #1668c1; --c1: #c4442a; --c2: #1a8a4a; --c3: #8a4bc0; --c4: #a97800; --c5: #0e8a93 }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --text: #e3e7ea; --soft: #97a1ab; --line: #30363c;
  --warn: #f0a860; --c0: #62a8f5; --c1: #f58a70; --c2: #63cf8f; --c3: #c59af0; --c4: #e3bb4a; --c5: #5fcbd3 } }
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1000px; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p { margin: .2rem 0; color: var(--soft) }
.row { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)) }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(420px, 100%), 1fr)) }
figure { margin: 0 } figcaption { font-weight: 600 }
svg { width: 100%; height: auto } svg text { fill: var(--soft); font-size: 11px }
svg polyline { fill: none; stroke-width: 1.6 } .g { stroke: var(--line) }
.best { stroke: var(--soft); stroke-dasharray: 3 3 }
.c0 { stroke: var(--c0) } .c1 { stroke: var(--c1) } .c2 { stroke: var(--c2) } .c3 { stroke: var(--c3) }
.c4 { stroke: var(--c4) } .c5 { stroke: var(--c5) }
.legend { color: var(--soft); font-size: 13px } .legend span { margin-right: 1rem; white-space: nowrap }
.legend i { border-top: 3px solid; display: inline-block; margin-right: .4rem; vertical-align: middle; width: 14px }
i.c0 { color: var(--c0) } i.c1 { color: var(--c1) } i.c2 { color: var(--c2) } i.c3 { color: var(--c3) }
i.c4 { color: var(--c4) } i.c5 { color: var(--c5) }
img { image-rendering: pixelated; max-width: 100%; width: 100% }
table { border-collapse: collapse } td { border-top: 1px solid var(--line); overflow-wrap: anywhere;
  padding: .15rem 1.2rem .15rem 0; vertical-align: top } td:nth-child(2) { font-variant-numeric: tabular-nums }
pre { border: 1px solid var(--line); font-size: 13px; overflow-x: auto; padding: .6rem; overflow-wrap: anywhere;
  white-space: pre-wrap }
.warn { color: var(--warn) }
"""
# Nothing may be fetched, whatever a name in the run contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(out: str | os.PathLike[str]) -> str:
    """The page of the run in directory `out`, as far as it has come; what the run lacks is left out.

    FileNotFoundError where there is no run.
    """
    run = Run(out)
    if not run.config.exists():
        raise FileNotFoundError(f"{run.path} holds no run (there is no {run.config})")
    asked = run.asked()
    logged = _logged(run.metrics)
    state = _state(run)
    steps = max([state.get("step", 0), *(step for line in logged.values() for step, _ in line)])
    best = state.get("best")
    told = [f"{asked.system} on {asked.data}", f"{int(steps)} of {asked.steps} steps"]
    if best:
        told.append(f"best checkpoint: step {best['step']}")
    facts = [", ".join(told), *_facts(run, state, logged, asked.batch_size), _reading(state, logged)]
    paragraphs = "".join(f"<p>{html.escape(fact)}</p>" for fact in facts if fact)
    sections = [
        ("", f"<h1>{html.escape(run.path.resolve().name)}</h1>{paragraphs}"),
        ("Curves", _curves(logged, best["step"] if best else None)),
        ("Samples", _grids(run)),
        ("Quality", _quality(run.path / "evaluation.json")),
        ("Events", _events(run.path / "log.txt")),
        ("Settings", f"<pre>{html.escape(run.config.read_text(encoding='utf-8'))}</pre>"),
        ("Versions", _table(state["versions"].items()) if "versions" in state else ""),
    ]
    body = "\n".join(f"{f'<h2>{title}</h2>' if title else ''}{text}" for title, text in sections if text)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(run.path.resolve().name)}'
        f'</title><meta name="viewport" content="width=device-width"><meta http-equiv="Content-Security-Policy" '
        f'content="{POLICY}"><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _logged(metrics: Path) -> dict[str, Line]:
    """(step, value) by name; lines that a kill cut short are left out."""
    lines: dict[str, list[tuple[float, float]]] = {}
    try:
        text = metrics.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    for row in text.splitlines():
        try:
            values = json.loads(row)
            step = float(values.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        for name, value in values.items():
            if isinstance(value, int | float):
                lines.setdefault(name, []).append((step, float(value)))
    return dict(lines)


def _state(run: Run) -> dict[str, Any]:
    """Of the last checkpoint what the page tells; nothing where it cannot be read: the rest still says much."""
    try:
        state = run.read()
    except (OSError, ValueError, RuntimeError):
        return {}
    parts = state["callbacks"]
    told = {name: state[name] for name in ("step", "versions", "data")}
    return {**told, "best": parts.get("evaluation", {}).get("best"), "watch": parts.get("health")}


def _facts(run: Run, state: dict[str, Any], logged: dict[str, Line], batch_size: int) -> list[str]:
    """On what, with what, how fast and for how long it was trained."""
    facts = []
    if images := (state.get("data") or {}).get("images"):
        facts.append(f"{images:,} images in the data")
    if machine := _machine(run.path / "log.txt"):
        facts.append(machine)
    if speeds := [(step, speed) for step, speed in logged.get("images_per_second", ()) if speed > 0]:
        steps = [step for step, _ in speeds]
        seconds = sum((b - a) * batch_size / speed for a, b, (_, speed) in zip([0, *steps], steps, speeds))
        facts.append(
            f"{statistics.median(speed for _, speed in speeds):,.0f} images/s, {duration(seconds)} of training"
        )
    return facts


def _machine(log: Path) -> str:
    """The last line of the log on device, precision and weights."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.split(maxsplit=3)[3] for line in reversed(lines) if " weights: " in line), "")


def _reading(state: dict[str, Any], logged: dict[str, Line]) -> str:
    """How the run is now, as the watch of its health sees it."""
    watch = state.get("watch")
    if not watch:
        return ""
    symptoms = [f"{name} since step {since}" for name, (since, looks) in watch["since"].items() if looks >= hold(name)]
    recent = {
        label: statistics.mean(value for _, value in logged[name][-RECENT:])
        for label, name in (
            ("D(x)", "discriminator/real"),
            ("D(G(z))", "discriminator/fake"),
            ("diversity of the samples", "diversity/spread"),
        )
        if logged.get(name)
    }
    numbers = ", ".join(f"{label} {value:.2f}" for label, value in recent.items())
    behind = f" ({numbers})" if numbers else ""
    if symptoms:
        return f"not healthy: {'; '.join(symptoms)}{behind}"
    if watch["looks"] <= GRACE:
        return f"health: too early to tell{behind}"
    return f"healthy{f': {numbers}' if numbers else ''}"


def _curves(logged: dict[str, Line], best: float | None) -> str:
    groups: dict[str, dict[str, Line]] = {}
    for name, line in logged.items():
        phase, _, what = name.rpartition("/")
        group = "loss" if what == "loss" else phase or name
        label = phase if what == "loss" else what
        if what in SHARES and all(0 <= value <= 1 for _, value in line):
            group, label = f"{phase}: {SHARED}", LABELS.get(what, what.replace("_", " "))
        elif what == "gradient":
            group, label = "norm of the gradient", phase
        groups.setdefault(group, {})[label] = line
    first = {"loss": groups.pop("loss", {})}
    speed = {name: groups.pop(name) for name in SPEED if name in groups}
    charts = [
        chart(
            title.replace("_", " "),
            lines,
            None if "/loss" in title or title in SPEED else best,
            (0.0, 1.0) if title.endswith(SHARED) else None,
        )
        for title, lines in {**first, **groups, **speed}.items()
    ]
    return f'<div class="row wide">{"".join(charts)}</div>' if any(charts) else ""


def _grids(run: Run) -> str:
    files: dict[int, dict[str, Path]] = {}  # by step and by what is shown, where there is more than one of a step
    for file in sorted(run.samples.glob("step-*.png"), key=lambda file: file.stem):
        number, _, what = file.stem[5:].partition("-")
        if number.isdecimal():
            files.setdefault(int(number), {})[what.replace("-", " ")] = file
    steps = sorted(files)
    if len(steps) > GRIDS:
        steps = sorted({steps[round(i * (len(steps) - 1) / (GRIDS - 1))] for i in range(GRIDS)})
    shown = {"the data, as the discriminator sees them": run.real}
    for step in steps:
        shown |= {f"step {step}{what and f', {what}'}": file for what, file in files[step].items()}
    figures = []
    for title, file in shown.items():
        picture = _picture(file)
        if picture:
            source = base64.b64encode(picture).decode()
            figures.append(
                f'<figure><img alt="{title}" src="data:image/png;base64,{source}">'
                f"<figcaption>{title}</figcaption></figure>"
            )
    return f'<div class="row">{"".join(figures)}</div>' if figures else ""


def _picture(file: Path) -> bytes:
    """A PNG of at most SIDE pixels; b"" where the file is none."""
    try:
        with Image.open(file) as image:
            if max(image.size) <= SIDE:
                return file.read_bytes()
            buffer = io.BytesIO()
            image.reduce(math.ceil(max(image.size) / SIDE)).save(buffer, "PNG")
            return buffer.getvalue()
    except OSError:
        return b""


def _quality(file: Path) -> str:
    from fastgan.metrics.registry import described

    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if "examples" in found:  # of a system that translates
            tables = [_compared(name, *example.values()) for name, example in found["examples"].items()]
        else:
            rows = [(name, _number(value), described(name)) for name, value in found["metrics"].items()]
            tables = [_table(rows)]
        return "".join(tables) + _table(found["protocol"].items())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f'<p class="warn">{html.escape(file.name)} cannot be read</p>'


def _compared(example: str, baseline: str, values: dict[str, Any], of_baseline: dict[str, Any]) -> str:
    """The metrics of one kind of translation, each beside what costs nothing."""
    from fastgan.metrics.registry import described

    head = (example, "result", baseline, "")
    return _table(
        [head, *((name, _number(v), _number(of_baseline.get(name)), described(name)) for name, v in values.items())]
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _events(log: Path) -> str:
    """What the log says beyond the lines of values: warnings, errors, resumes."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    rows = []
    for line in text.splitlines():
        words = line.split(maxsplit=3)
        if len(words) < 4 or (words[2] == "INFO" and words[3].startswith("step ")):
            continue
        loud = words[2] in ("WARNING", "ERROR", "CRITICAL")
        rows.append(f'<span class="{"warn" if loud else ""}">{html.escape(line)}</span>')
    left_out = f"{len(rows) - EVENTS} earlier lines left out\n" if len(rows) > EVENTS else ""
    lines = "\n".join(rows[-EVENTS:])
    return f"<pre>{left_out}{lines}</pre>" if rows else "<p>none</p>"


def _table(rows: Any) -> str:
    cells = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
