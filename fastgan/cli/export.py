"""fastgan export: the generator of a run as one file of weights and one that describes them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("export", help="write the generator of a run as .safetensors")
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--out", help="file that ends in .safetensors (default: the run's name in this directory)")
    parser.add_argument("--raw", action="store_true", help="the trained weights, not their moving average")
    parser.add_argument(
        "--checkpoint", choices=("last", "best", "previous"), default="last", help="of the run (default: last)"
    )


def run(args: argparse.Namespace) -> int:
    from fastgan.training.export import export
    from fastgan.training.run import quoted

    out = args.out or f"{Path(args.run).resolve().name}.safetensors"
    described = export(args.run, out, averaged=not args.raw, which=args.checkpoint)
    print(
        f"{out} and {described.name}: `fastgan sample {quoted(out)}` draws from them, fastgan.load({out!r}) loads them"
    )
    return 0
