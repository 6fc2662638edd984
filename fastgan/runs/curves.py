"""Logged values as small line charts: SVG to put into a page."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 20, 10, 24  # margins of the plot
POINTS = 240  # of a line; more are averaged
COLOURS = 6  # classes c0..c5 of the page's style

Line = Sequence[tuple[float, float]]  # (step, value)


def chart(
    title: str, lines: Mapping[str, Line], best: float | None = None, span: tuple[float, float] | None = None
) -> str:
    """A figure with its legend, "" where there is nothing finite to draw.   best: a step to mark.   span: of the
    values; by default what they need."""
    drawn = {name: _thinned([p for p in line if math.isfinite(p[1])]) for name, line in lines.items()}
    drawn = {name: line for name, line in drawn.items() if line}
    if not drawn:
        return ""
    xs = [x for line in drawn.values() for x, _ in line]
    ys = [y for line in drawn.values() for _, y in line] if span is None else list(span)
    x_ticks, y_ticks = ticks(min(xs), max(xs), 5), ticks(min(ys), max(ys), 5)
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = min(ys[0:1] + ys + y_ticks[:1]), max(ys + y_ticks[-1:])

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((value - x_low) / (x_high - x_low) if x_high > x_low else 0.5)

    def y(value: float) -> float:
        return (
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ((value - y_low) / (y_high - y_low) if y_high > y_low else 0.5)
        )

    parts = []
    for value in y_ticks:
        parts.append(f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{_short(value)}</text>')
    for value in x_ticks:
        if x_low <= value <= x_high:
            parts.append(f'<text x="{x(value):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{_short(value)}</text>')
    if best is not None and x_low <= best <= x_high:
        parts.append(f'<line class="best" x1="{x(best):.1f}" x2="{x(best):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for number, (name, line) in enumerate(drawn.items()):
        colour = f"c{number % COLOURS}"
        label = html.escape(f"{name}: {_short(line[0][1])} at first, {_short(line[-1][1])} in the end")
        if len(line) == 1:
            parts.append(f'<circle class="{colour}" cx="{x(line[0][0]):.1f}" cy="{y(line[0][1]):.1f}" r="3"/>')
        else:
            points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
            parts.append(f'<polyline class="{colour}" points="{points}"><title>{label}</title></polyline>')
    legend = "".join(
        f'<span><i class="c{number % COLOURS}"></i>{html.escape(name)} {_short(line[-1][1])}</span>'
        for number, (name, line) in enumerate(drawn.items())
    )
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg><div class="legend">{legend}</div></figure>'
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers around low..high, 1, 2 or 5 times a power of ten apart."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _thinned(line: Line) -> Line:
    size = -(-len(line) // POINTS)
    if size <= 1:
        return line
    parts = [line[start : start + size] for start in range(0, len(line), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _short(value: float) -> str:
    if value and (abs(value) >= 100_000 or abs(value) < 0.001):
        return f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.4g}"
