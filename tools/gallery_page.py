"""The sheets and the page of tools/gallery.py."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fastgan import load as load_system
from fastgan.bench.timing import signature
from fastgan.data import load, take
from fastgan.data.fields import Images
from fastgan.data.fitting import fitted
from fastgan.data.pictures import to_uint8
from fastgan.data.source import source_of
from fastgan.files import replace_file
from fastgan.metrics.translation import MOST, TABLE, drawn_together
from fastgan.systems import Translator
from fastgan.systems.registry import find

BYTES = 150_000  # a sheet has at most
ROWS = 6  # of a sheet, about
CELL = 128  # pixels a side; smaller pictures are enlarged a whole number of times
GAP, HEAD = 4, 16  # pixels between cells, and of a line of names
HEADER = """\
# What they make

Each system that makes pictures of pictures, trained for minutes and shown on pictures of the test part, which it has
not seen. `make gallery` trains, measures and draws them by the settings in `benchmarks/gallery.yaml`, and writes this
page. A training ends by time, and its steps are fitted to what one takes on the machine; the commands have the steps
that it came to. What the figures mean is in [evaluation.md](evaluation.md#translations).
"""


def save_sheet(path: Path, run: Path, data: str, rows: list[int], size: int | None = None) -> None:
    """A PNG of rows of the test part of `data`: what goes in, what comes out, the truth, and what costs nothing.

    In 256 colors, or of fewer rows, where the file would be larger than `BYTES`. ValueError for rows that are not
    there.
    """
    system: Any = load_system(run)
    bands = list(_bands(system, data, rows, size))
    for count in range(max(len(columns["output"]) for _, columns in bands), 0, -1):
        drawn = _drawn([(name, {label: x[:count] for label, x in columns.items()}) for name, columns in bands])
        for picture in drawn, drawn.quantize(256, dither=Image.Dither.NONE):
            file = io.BytesIO()
            picture.save(file, "PNG", optimize=True)
            if file.tell() <= BYTES:
                replace_file(path, file.getvalue())
                return
    raise ValueError(f"one row of {len(bands)} examples takes more than {BYTES:,} bytes: give a smaller size")


def _bands(system: Translator, data: str, rows: list[int], size: int | None) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The pictures of each example by what they are, (N, C, H, W) in [-1, 1]."""
    wanted = {
        name: replace(field, height=size, width=size) if size and isinstance(field, Images) else field
        for name, field in system.inputs().items()
    }
    source = source_of(fitted(load(f"{data}@test"), wanted))
    taken = take(source, MOST)
    if not rows or not all(0 <= row < taken.count for row in rows):
        raise ValueError(f"rows must be some of the numbers from 0 to {taken.count - 1} in {data}@test, not {rows}")
    batch = taken.map(lambda values: values[rows])
    paired = drawn_together(system, source)
    examples = list(system.examples(batch, torch.Generator().manual_seed(0), paired=paired))
    for example in examples:
        example = example.rows(slice(-(-ROWS // len(examples))))
        columns = dict(system.panel(example).parts)
        name, free = system.baseline(example)
        yield example.name, columns if free is example.images else {**columns, name: free}


def _drawn(bands: list[tuple[str, dict[str, Tensor]]]) -> Image.Image:
    """A band an example: its name where there are several, the names of the columns, a row a picture."""
    largest = max(max(images.shape[2:]) for _, columns in bands for images in columns.values())
    side = min(CELL, largest * max(1, CELL // largest))
    width = max(len(columns) for _, columns in bands) * (side + GAP) + GAP
    height = sum((side + GAP) * len(columns["output"]) + HEAD * (1 + (len(bands) > 1)) for _, columns in bands) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    top = 0
    for name, columns in bands:
        if len(bands) > 1:
            pen.text((GAP, top + 2), name, "black", font)
            top += HEAD
        for column, (label, images) in enumerate(columns.items()):
            left = GAP + column * (side + GAP)
            pen.text((left, top + 2), label, "black", font)
            for row, image in enumerate(to_uint8(images.float().cpu().clamp(-1, 1))):
                sheet.paste(_cell(image, side), (left, top + HEAD + row * (side + GAP)))
        top += HEAD + len(columns["output"]) * (side + GAP)
    return sheet


def _cell(image: Tensor, side: int) -> Image.Image:
    """(1 or 3, H, W) uint8 -> `side` pixels a side; enlarged by repeating pixels, so that none is made up."""
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    enlarges = max(image.shape[1:]) < side
    return picture.resize((side, side), Image.Resampling.NEAREST if enlarges else Image.Resampling.LANCZOS)


def write(docs: Path, names: list[str]) -> None:
    """gallery.md of what is in gallery/, in the order of `names`."""
    replace_file(docs / "gallery.md", page(docs, names).encode())


def page(docs: Path, names: list[str]) -> str:
    found = {name: docs / "gallery" / f"{name}.json" for name in names}
    sections = [_section(name, json.loads(file.read_text())) for name, file in found.items() if file.exists()]
    return "\n".join([HEADER, *sections])


def _section(name: str, found: dict[str, Any]) -> str:
    protocol, examples = found["protocol"], found["examples"]
    what = inspect.getdoc(find(found["system"])) or ""
    metrics = [name for name in TABLE if any(name in example["metrics"] for example in examples.values())]
    rows = []
    for example, values in examples.items():
        rows.append([example, *(_number(values["metrics"].get(metric)) for metric in metrics)])
        rows.append([f"*{values['baseline']}*", *(_number(values["of_baseline"].get(metric)) for metric in metrics)])
    table = [["", *metrics], ["---", *["---:"] * len(metrics)], *rows]
    return "\n".join(
        [
            f"## {name}", "", what.split("\n\n")[0].replace("\n", " "), "",
            f"![{name}: rows of test pictures](gallery/{name}.png)", "",
            f"```sh\n{found['command']}\n```", "",
            *(f"| {' | '.join(row)} |" for row in table), "",
            f"{protocol['rows']} rows of {protocol['data']}, features {protocol['features']}; in italics what costs "
            f"nothing. {found['steps']:,} steps in {found['seconds']:,.0f} seconds: {signature(found['machine'])}.",
            "",
        ]
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
