"""fastgan sample: a grid of images from a trained run."""

from __future__ import annotations

import argparse
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("sample", help="draw a grid of images from a run")
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--count", type=int, default=64, help="images (default: 64)")
    parser.add_argument("--out", default="grid.png", help="PNG file (default: grid.png)")
    parser.add_argument("--seed", type=int, default=0, help="of the latents (default: 0)")
    parser.add_argument("--columns", type=int, help="images a row (default: as square as can be)")
    parser.add_argument("--raw", action="store_true", help="the trained weights, not their moving average")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"--seed must lie in 0..2**63 - 1, not {args.seed}")
    import torch

    from fastgan.data import save_png
    from fastgan.training import load
    from fastgan.training.report import picture

    system = load(args.run, averaged=not args.raw, device=args.device)
    images = system.sample(args.count, generator=torch.Generator().manual_seed(args.seed))
    save_png(args.out, picture(images, args.columns))
    print(f"{args.out}: {args.count} images")
    return 0
