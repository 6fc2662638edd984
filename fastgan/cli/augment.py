"""fastgan augment: labelled pictures from a trained run, in a folder a class."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastgan.cli.drawing import add_run_options, folder_name, trained


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "augment",
        help="write labelled pictures of a run, to train something else on",
        description="Pictures of every class in a folder each: drawn by a conditional system, such as acgan, or the "
        "labelled pictures of a data set as a system such as simgan refines them.",
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a .safetensors file of it")
    parser.add_argument("--per-class", type=int, required=True, metavar="N", help="pictures of each class")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder, or an empty one")
    parser.add_argument(
        "--data", help="of a system that refines pictures: those with labels (default: those of the run)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the latents (default: 0)")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    from fastgan.data import load as data_of
    from fastgan.data import save_png, to_uint8
    from fastgan.files import check_folder
    from fastgan.runs.augment import augment
    from fastgan.systems import Translator

    folder = Path(args.out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already: choose a new folder or an empty one")
    check_folder(folder.parent, folder)
    system: Any = trained(args)
    name = args.data
    if name is None and isinstance(system, Translator):
        name = _trained_on(args.run, args.checkpoint)
    channels = system.image_shape[0] if name is not None else None
    made = augment(system, args.per_class, None if name is None else data_of(name, channels=channels), seed=args.seed)
    digits = max(5, len(str(args.per_class - 1)))
    written: dict[int, int] = {}
    names: dict[int, str] = {}
    for images, label, of in made:
        if label not in names:
            asked = folder_name((of,), 0)
            names[label] = f"{label}-{asked}" if asked in names.values() else asked
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        for image in to_uint8(images):
            number = written.get(label, 0)
            save_png(folder / names[label] / f"{number:0{digits}}.png", image)
            written[label] = number + 1
    print(f"{folder}: {sum(written.values())} pictures of {len(written)} classes")
    return 0


def _trained_on(path: str, which: str) -> str:
    """What the run translates: the first of its two data sets."""
    from fastgan.data.sources.names import two
    from fastgan.runs.restore import config_of
    from fastgan.runs.run import Run

    if Path(path).suffix == ".safetensors":
        raise ValueError(f"{path} knows no data: give --data, the labelled pictures to refine")
    run = Run(path)
    data = config_of(run.read(which), run).data
    return (two(data) or (data,))[0]
