"""fastgan bench: this machine's figures, FastGAN beside what one would run instead."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure FastGAN beside PyTorch on this machine",
        description="Times all variants in turn in one process and prints medians and ratios to the first of each "
        "case (above 1 is faster). Nothing is reported for a variant whose numbers are wrong.",
    )
    parser.add_argument("what", choices=("ops", "step"), help="ops: single layers; step: DCGAN 64x64 training steps")
    parser.add_argument("--batch-size", type=int, default=64, help="images, for step (default: 64)")
    parser.add_argument("--rounds", type=int, help="measurements of each variant (default: 15 for ops, 9 for step)")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    parser.add_argument("--json", metavar="FILE", help="write the rows, with machine and versions, to this file")


def run(args: argparse.Namespace) -> int:
    for name in ("batch_size", "rounds"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(args, name)}")
    from fastgan.bench import ops, step, timing

    if args.what == "ops":
        result = ops.measure(args.rounds or 15)
    else:
        result = step.measure(args.batch_size, args.rounds or 9, compiled=not args.no_compile)
    facts = timing.machine()
    print(
        f"{facts['processor']}, {facts['threads']} threads, torch {facts['torch']}, kernels {facts['cpu_capability']}"
    )
    print(timing.table(result))
    if args.json:
        timing.write(Path(args.json), result)
        print(f"rows written to {args.json}")
    return 0
