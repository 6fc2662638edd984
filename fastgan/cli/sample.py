"""fastgan sample: a grid of images from a trained run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastgan.cli.drawing import (
    BLOCK,
    add_options,
    cells,
    folder_name,
    labelled,
    labels_of,
    latents,
    of_points,
    samples,
    system_of,
)

BATCH = 64  # images made at once for a folder, a multiple of BLOCK


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sample", help="draw a grid of images from a run, or its points")
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument("--count", type=int, help="samples (default: 64 images, 1000 points)")
    parser.add_argument(
        "--out",
        default="grid.png",
        help="file that ends in .png, .jpg or .webp, or a new folder, as samples/, for a file each (default: grid.png)",
    )
    parser.add_argument(
        "--columns", type=int, help="images a row (default: one for each class, or as square as can be)"
    )
    parser.add_argument("--numbers", action="store_true", help="draw on each its number, 0 being the first")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    from fastgan.data import enlarged, grid, save_picture, scatter
    from fastgan.data.panel import by_class
    from fastgan.data.problems import examples

    single = _is_single(args)
    system = system_of(args)
    points = of_points(system)
    labels = labels_of(system, args.labels)
    count, columns = by_class(1000 if points else 64, len(labels))
    if args.count is not None:
        count = args.count
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if points and (args.numbers or args.columns or not single):
        raise ValueError(
            f"{args.run} makes points, all drawn in one picture: leave out --numbers and --columns, and name a file"
        )
    if not single:
        _one_by_one(args, system, count, labels)
        return 0
    latent = latents(system, range(count), args.seed)
    if points:
        save_picture(args.out, scatter(samples(system, latent, labels)))
        print(f"{args.out}: {count} points")
        return 0
    images = cells(system, latent, labels)
    if args.numbers:
        images = labelled(images, map(str, range(count)))
    columns = args.columns or columns
    save_picture(args.out, enlarged(grid(images, columns)))
    names = [system.class_names[label] for label in labels if system.class_names]
    shown = f"; a column a class: {examples(names, 20)}" if 1 < len(names) == columns else ""
    print(f"{args.out}: {count} images{shown}")
    return 0


def _is_single(args: argparse.Namespace) -> bool:
    """Whether --out is one picture, else it is a folder of them; an error if it can be neither."""
    from fastgan.data.pictures import FORMATS
    from fastgan.files import any_of, check_file, check_folder, names_folder

    if not names_folder(args.out):
        if Path(args.out).suffix.lower() not in FORMATS:
            raise ValueError(
                f"--out must be a file that ends in {any_of(tuple(FORMATS))}, or a folder for a picture each, as "
                f"{args.out.rstrip('.')}/, not {args.out!r}"
            )
        check_file(args.out)
        return True
    folder = Path(args.out)
    if folder.is_dir() and (files := sum(1 for _ in folder.iterdir())):
        raise FileExistsError(f"the folder {folder} holds {files} files already: choose a new one or empty it")
    check_folder(folder if folder.is_dir() else folder.parent, folder)
    if args.numbers or args.columns:
        raise ValueError("in a folder the pictures are named by their numbers: leave out --numbers and --columns")
    return False


def _one_by_one(args: argparse.Namespace, system: Any, count: int, labels: Sequence[int]) -> None:
    """Pictures 00000.png, 00001.png, ... in a folder; of a conditional system with the class, 00000-cat.png."""
    import torch
    from tqdm import tqdm

    from fastgan.data import save_png

    folder = Path(args.out)
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(args.seed)
    digits = max(5, len(str(count - 1)))
    with tqdm(total=count, unit="img", disable=None) as bar:
        for first in range(0, count, BATCH):
            blocks = [system.latent(BLOCK, generator) for _ in range(BATCH // BLOCK)]
            turn = [labels[(first + i) % len(labels)] for i in range(BATCH)] if labels else []
            latent = torch.cat(blocks)[: count - first]
            for number, image in enumerate(cells(system, latent, turn), first):
                of = f"-{folder_name(system.class_names, turn[number - first])}" if turn else ""
                save_png(folder / f"{number:0{digits}}{of}.png", image)
            bar.update(len(latent))
    print(f"{folder}: {count} images")
