"""fastgan sample: a grid of images from a trained run."""

from __future__ import annotations

import argparse
from typing import Any

from fastgan.cli.drawing import add_options, cells, labelled, labels_of, latents, of_points, samples, system_of


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sample", help="draw a grid of images from a run, or its points")
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument("--count", type=int, help="samples (default: 64 images, 1000 points)")
    parser.add_argument("--out", default="grid.png", help="PNG file (default: grid.png)")
    parser.add_argument(
        "--columns", type=int, help="images a row (default: one for each class, or as square as can be)"
    )
    parser.add_argument("--numbers", action="store_true", help="draw on each its number, 0 being the first")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    system = system_of(args)
    points = of_points(system)
    from fastgan.data import enlarged, grid, save_png, scatter
    from fastgan.data.pictures import by_class
    from fastgan.data.problems import examples

    labels = labels_of(system, args.labels)
    count, columns = by_class(1000 if points else 64, len(labels))
    if args.count is not None:
        count = args.count
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    latent = latents(system, range(count), args.seed)
    if points:
        if args.numbers or args.columns:
            raise ValueError(f"{args.run} makes points, all drawn in one picture: leave out --numbers and --columns")
        save_png(args.out, scatter(samples(system, latent, labels)))
        print(f"{args.out}: {count} points")
        return 0
    images = cells(system, latent, labels)
    if args.numbers:
        images = labelled(images, map(str, range(count)))
    columns = args.columns or columns
    save_png(args.out, enlarged(grid(images, columns)))
    names = [system.class_names[label] for label in labels if system.class_names]
    shown = f"; a column a class: {examples(names, 20)}" if 1 < len(names) == columns else ""
    print(f"{args.out}: {count} images{shown}")
    return 0
