"""fastgan weights: networks that are trained already, what each is for, and where its weights are."""

from __future__ import annotations

import argparse
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "weights",
        help="list trained networks of features, or bring the weights of one",
        description="Networks of features, for perceptual losses (`--set perceptual=NAME`) and distances of pictures "
        "(`fastgan evaluate --features NAME`): where their weights are, or how to get them.",
    )
    parser.add_argument("name", nargs="?", help="one of them")
    parser.add_argument(
        "--from", dest="file", metavar="FILE",
        help="of vgg16 and vgg19: torchvision's file, whose convolutions are kept in the cache directory",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from fastgan.pretrained import ENTRIES, FILES, bring

    if args.name is not None and args.name not in ENTRIES:
        raise ValueError(f"weights must be of {', '.join(ENTRIES)}, not {args.name!r}")
    if args.file is not None:
        if args.name not in FILES:
            raise ValueError(f"--from brings weights of {' or '.join(FILES)}, not of {args.name or 'all'}")
        kept, said = bring(args.name, args.file)
        print(f"{kept}: {args.name}, {said}")
        return 0
    for name in ENTRIES if args.name is None else [args.name]:
        entry = ENTRIES[name]
        try:
            place = str(entry.find())
        except (ImportError, FileNotFoundError) as error:
            place = str(error)
        print(f"{name}: {entry.meaning}\n  {place}")
    return 0
