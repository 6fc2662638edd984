"""fastgan interpolate: the way from samples to other samples, as a picture or a film."""

from __future__ import annotations

import argparse
from typing import Any

from fastgan.cli.drawing import (
    add_options,
    cells,
    check_out,
    labels_of,
    latents,
    of_points,
    samples,
    system_of,
)


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("interpolate", help="draw the way between samples of a run")
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument("--rows", type=int, help="ways: from sample 0 to 1, from 2 to 3, ... (default: 8)")
    parser.add_argument("--from", type=int, dest="start", metavar="I", help="one way, from sample I ...")
    parser.add_argument("--to", type=int, dest="end", metavar="J", help="... to sample J, as `sample --numbers` shows")
    parser.add_argument("--steps", type=int, default=10, help="images a way, both ends included (default: 10)")
    parser.add_argument("--mode", choices=("spherical", "linear"), default="spherical", help="(default: spherical)")
    parser.add_argument(
        "--out",
        default="interpolation.png",
        help="PNG: a row a way; GIF: there and back (default: interpolation.png)",
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    suffix = check_out(args.out, ".png", ".gif")
    if (args.start is None) != (args.end is None):
        raise ValueError("--from and --to go together, as in --from 3 --to 14")
    if args.rows is not None and args.start is not None:
        raise ValueError("--rows draws ways between the first samples, --from and --to draw one: choose")
    rows = 8 if args.rows is None else args.rows
    if rows < 1:
        raise ValueError(f"--rows must be at least 1, not {rows}")
    if args.steps < 2:
        raise ValueError(f"--steps must be at least 2, not {args.steps}")
    system = system_of(args)

    from fastgan.data import enlarged, grid, save_png, scatter
    from fastgan.data.movie import save_gif
    from fastgan.latent import interpolate

    numbers = range(2 * rows) if args.start is None else (args.start, args.end)
    ends = latents(system, numbers, args.seed)
    way = interpolate(ends[0::2], ends[1::2], args.steps, args.mode)  # (steps, rows, ...)
    labels = [label for label in labels_of(system, args.labels) for _ in range(args.steps)]  # a class a way
    points = of_points(system)
    images = (samples if points else cells)(system, way.transpose(0, 1).flatten(0, 1), labels)
    images = images.unflatten(0, (-1, args.steps))  # (rows, steps, ...)
    if suffix == ".png":
        together = images.flatten(0, 1)
        save_png(args.out, scatter(together) if points else enlarged(grid(together, args.steps)))
    else:
        there = [scatter(images[:, step]) if points else enlarged(grid(images[:, step])) for step in range(args.steps)]
        save_gif(args.out, [*there, *there[-2:0:-1]], hold=0.1)
    print(f"{args.out}: {len(images)} x {args.steps} {'points' if points else 'images'}")
    return 0
