"""fastgan bench: this machine's figures, FastGAN beside what one would run instead."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.bench.timing import Row

ROUNDS = {"ops": 15, "step": 9, "networks": 7, "systems": 7}


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure FastGAN beside PyTorch on this machine",
        description="Times all variants in turn in one process and prints medians and ratios to the first of each "
        "case (above 1 is faster). Nothing is reported for a variant whose numbers are wrong.",
    )
    kinds = parser.add_subparsers(dest="what", required=True, metavar="what")
    ops = kinds.add_parser("ops", help="single layers")
    step = kinds.add_parser("step", help="DCGAN 64x64 training steps, beside torch.compile too")
    step.add_argument("--batch-size", type=int, default=64, help="images (default: 64)")
    which = step.add_mutually_exclusive_group()
    which.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    which.add_argument("--compile-all", action="store_true", help="torch.compile in all its modes: many minutes")
    networks = kinds.add_parser("networks", help="steps of published networks, before and after fastgan.fuse")
    systems = kinds.add_parser("systems", help="steps of every system, beside PyTorch's own modules and ops")
    for kind, each in ((ops, "op"), (networks, "network"), (systems, "system")):
        kind.add_argument(
            "--only",
            metavar="NAME",
            action="append",
            default=[],
            help=f"this {each}; may be given again (default: all)",
        )  # fmt: skip
    for kind in (networks, systems):
        kind.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16: autocast (default: both)")
    networks.add_argument("--compile", action="store_true", help="torch.compile too: minutes for each network")
    for kind in (step, networks):
        kind.add_argument(
            "--compile-limit", metavar="SECONDS", type=float, default=600.0,
            help="give a torch.compile peer up as failed after this time (default: 600)",
        )  # fmt: skip
        kind.add_argument(
            "--memory", action="store_true",
            help="measure the memory of a step as well: what a process of its own holds at most, over the networks",
        )  # fmt: skip
    for name, kind in (("ops", ops), ("step", step), ("networks", networks), ("systems", systems)):
        kind.add_argument("--rounds", type=int, help=f"measurements of each variant (default: {ROUNDS[name]})")
        if kind in (ops, step):
            kind.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
        kind.add_argument("--json", metavar="FILE", help="write the rows, with machine and versions, to this file")
        kind.add_argument("--chart", metavar="FILE.png", help="draw the ratios as bars")
        kind.add_argument("--against", metavar="FILE", help="compare with what --json wrote earlier")


def run(args: argparse.Namespace) -> int:
    from fastgan.files import check_file

    for name in ("batch_size", "rounds", "compile_limit"):
        given = getattr(args, name, None)
        if given is not None and not given >= 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {given}")
    if getattr(args, "device", "cpu") == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError(f"--device cuda: torch {torch.__version__} finds no CUDA device")
    if args.chart:
        check_file(args.chart, ".png", what="--chart")
    if args.json:
        check_file(args.json, what="--json")
    from fastgan.bench import comparison, timing

    before = comparison.read(Path(args.against)) if args.against else None
    result = _measure(args)
    device = getattr(args, "device", "cpu")
    facts = timing.machine(device)
    print(timing.signature(facts))
    print(timing.table(result))
    if before:
        print(comparison.comparison(before, result, facts))
    if args.json:
        timing.write(Path(args.json), result, device)
        print(f"rows written to {args.json}")
    if args.chart:
        from fastgan.bench import chart

        chart.write(Path(args.chart), result, facts)
        print(f"chart written to {args.chart}")
    return 0


def _measure(args: argparse.Namespace) -> list[Row]:
    from fastgan.bench.cases import networks, ops, step, systems

    rounds = args.rounds or ROUNDS[args.what]
    if args.what == "ops":
        return ops.measure(rounds, args.device, args.only)
    if args.what == "step":
        compiled = "none" if args.no_compile else "all" if args.compile_all else "default"
        return step.measure(args.batch_size, rounds, compiled, args.compile_limit, args.memory, args.device)
    dtypes = (args.dtype,) if args.dtype else networks.DTYPES
    if args.what == "systems":
        return systems.measure(args.only, dtypes, rounds)
    return networks.measure(args.only, dtypes, rounds, args.compile, args.compile_limit, args.memory)
