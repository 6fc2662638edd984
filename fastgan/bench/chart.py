"""A picture of rows: a horizontal bar a variant, as long as its ratio to the first variant of its case."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from fastgan.bench import timing
from fastgan.bench.timing import Row, signature

SIZE = 24  # of the text, in pixels
LINE = 34
MARGIN = 30
WIDTH = 1600
OURS, THEIRS, SLOWER, TEXT, RULE = "#1668b8", "#9aa5b1", "#b5651d", "#1f2933", "#616e7c"


TALLEST = 2500  # pixels; what would be taller is drawn in two columns, a line a variant
FINE_SIZE, FINE_LINE, FINE_WIDTH = 13, 19, 2000


def draw(all_rows: Sequence[Row], machine: dict[str, Any]) -> Image.Image:
    """Blue: FastGAN's, brown where it is slower than the first variant; grey: what one would run instead."""
    if not all_rows:
        raise ValueError("there are no rows to draw")
    cases = [(case, list(group)) for case, group in groupby(all_rows, key=lambda row: row.case)]
    lines = sum(len(group) + 2 for _, group in cases) + 2
    if lines * LINE + 2 * MARGIN > TALLEST:
        return _fine(cases, machine)
    image = Image.new("RGB", (WIDTH, lines * LINE + 2 * MARGIN), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(SIZE)
    label = max(pen.textlength(row.variant, font) for row in all_rows) + 1.5 * MARGIN
    figure = max((pen.textlength(_figure(row), font) for row in all_rows if not row.failed), default=0.0)
    longest = max([1.0, *(row.ratio for row in all_rows)])
    unit = max(1.0, (WIDTH - label - figure - 2 * MARGIN) / longest)  # pixels of a ratio of 1

    top = float(MARGIN)
    pen.text((MARGIN, top), "Speed against the first variant of each case (longer is faster)", RULE, font)
    top += 1.5 * LINE
    for case, group in cases:
        pen.text((MARGIN, top), case, TEXT, font, stroke_width=0.5)
        top += LINE
        for number, row in enumerate(group):
            end = label + unit * row.ratio
            pen.text((MARGIN, top), row.variant, TEXT, font)
            if not row.failed:
                pen.rectangle((label, top + 4, end, top + LINE - 5), _colour(row, number))
            pen.text((end + 12, top), _figure(row), SLOWER if row.failed else TEXT, font)
            top += LINE
        pen.line((label + unit, top - LINE * len(group), label + unit, top), RULE, 2)
        top += LINE
    pen.text((MARGIN, top - LINE / 2), f"{signature(machine)}, {machine['date']}", RULE, ImageFont.load_default(18))
    return image


def _fine(cases: Sequence[tuple[str, list[Row]]], machine: dict[str, Any]) -> Image.Image:
    """The same of many cases: the first variant of a case, whose bar would be 1 long, is left out."""
    lines = [
        (f"{case}: {row.variant}" if row.variant != timing.OURS else case, row, number)
        for case, group in cases
        for number, row in enumerate(group)
        if number or len(group) == 1
    ]
    half = -(-len(lines) // 2)
    image = Image.new("RGB", (FINE_WIDTH, (half + 4) * FINE_LINE + 2 * MARGIN), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(FINE_SIZE)
    pen.text(
        (MARGIN, MARGIN / 2), "Speed against the first variant of each case (longer is faster)", RULE,
        ImageFont.load_default(20),
    )  # fmt: skip
    column = (FINE_WIDTH - 2 * MARGIN) / 2
    label = max(pen.textlength(text, font) for text, *_ in lines) + 10
    figure = max((pen.textlength(_figure(row), font) for _, row, _ in lines if not row.failed), default=0.0) + 20
    unit = max(1.0, (column - label - figure) / max([1.0, *(row.ratio for _, row, _ in lines)]))
    for part in range(2):
        left, top = MARGIN + part * column, MARGIN + 1.5 * FINE_LINE
        shown = lines[part * half : (part + 1) * half]
        for text, row, number in shown:
            pen.text((left, top), text, TEXT, font)
            start, end = left + label, left + label + unit * row.ratio
            if not row.failed:
                pen.rectangle((start, top + 3, end, top + FINE_LINE - 4), _colour(row, number))
            pen.text((end + 6, top), _figure(row), SLOWER if row.failed else TEXT, font)
            top += FINE_LINE
        at = left + label + unit
        pen.line((at, MARGIN + 1.5 * FINE_LINE, at, top), RULE, 1)
    pen.text((MARGIN, image.height - MARGIN), f"{signature(machine)}, {machine['date']}", RULE, font)
    return image


def write(path: Path, all_rows: Sequence[Row], machine: dict[str, Any]) -> None:
    draw(all_rows, machine).save(path)


def _colour(row: Row, number: int) -> str:
    if number == 0 or row.role != "ours":
        return THEIRS
    return OURS if row.ratio >= 1 else SLOWER


def _figure(row: Row) -> str:
    if row.failed:
        return f"failed: {row.failed}"[:60]
    digits = 0 if row.milliseconds >= 100 else 1 if row.milliseconds >= 10 else 3
    return f"{row.ratio:.2f}x   {row.milliseconds:.{digits}f} ms"
