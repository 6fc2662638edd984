"""fastgan sample: a grid of images from a trained run."""

from __future__ import annotations

import argparse
from typing import Any

from fastgan.cli.drawing import add_options, cells, labelled, labels_of, latents, system_of


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sample", help="draw a grid of images from a run")
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument("--count", type=int, default=64, help="images (default: 64)")
    parser.add_argument("--out", default="grid.png", help="PNG file (default: grid.png)")
    parser.add_argument(
        "--columns", type=int, help="images a row (default: one for each class, or as square as can be)"
    )
    parser.add_argument("--numbers", action="store_true", help="draw on each its number, 0 being the first")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    system = system_of(args)
    if args.count < 1:
        raise ValueError(f"count must be at least 1, not {args.count}")
    from fastgan.data import grid, save_png

    labels = labels_of(system, args.labels)
    images = cells(system, latents(system, range(args.count), args.seed), labels)
    if args.numbers:
        images = labelled(images, map(str, range(args.count)))
    columns = args.columns or (len(labels) if 1 < len(labels) <= args.count else None)
    save_png(args.out, grid(images, columns))
    print(f"{args.out}: {args.count} images")
    return 0
