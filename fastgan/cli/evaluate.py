"""fastgan evaluate: how good the samples of a run are."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastgan.cli.drawing import add_options, sampling, trained
from fastgan.metrics.registry import chosen, summary


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="tell how good the samples of a run are",
        description=f"Compares samples with the data: {summary()}. Features come from a classifier that is trained on "
        "the data once (seconds), or from --features or --inception. Of a run that translates pictures: every example "
        "of it beside the truth and beside what costs nothing, on the test part of its data. The table also goes to "
        "RUN/evaluation.json.",
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument("--samples", type=int, metavar="N", help="(default: as many as the data, at most 10,000)")
    parser.add_argument("--data", help="compare with these instead of the data trained on")
    parser.add_argument("--metrics", metavar="A,B", help="these only, as frechet,precision (default: all that apply)")
    parser.add_argument(
        "--inception", metavar="FILE", help="features of this TorchScript file, which runs: only from whom you trust"
    )
    parser.add_argument(
        "--features",
        metavar="NAME",
        help="of a network that `fastgan weights` lists, or a file of weights (of a run that translates: small)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the result to this file too")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    from fastgan.data import load
    from fastgan.files import check_file, replace_file
    from fastgan.metrics.inception import FileFeatures
    from fastgan.metrics.scores import Scores, evaluate
    from fastgan.runs.run import Run

    names = None
    if args.metrics is not None:
        names = [metric.name for metric in chosen(part.strip() for part in args.metrics.split(","))]
    if getattr(args, "labels", None):
        raise ValueError("evaluate takes samples of every class, as many as the data have; leave out --labels")
    exported = Path(args.run).suffix == ".safetensors"
    files = [check_file(args.json, what="--json")] if args.json else []
    if exported and args.data is None:
        raise ValueError(f"{args.run} does not say what it was trained on: --data NAME")
    system: Any = trained(args)
    if hasattr(system, "examples"):
        return _translations(args, system, names, files, exported)
    if args.features is not None and args.inception is not None:
        raise ValueError("features are of one network: give --features or --inception, not both")
    system = sampling(system, args.run)
    if not exported and names is None:  # a part would take the place of the whole
        files.append(check_file(Run(args.run).path / "evaluation.json", what="the table"))
    name = args.data or Run(args.run).asked().data
    white = None if args.data else Run(args.run).asked().white
    channels, resolution, _ = system.image_shape
    try:
        source = load(name, resolution, channels, white=white)
    except ValueError as error:
        advice = "" if args.data else "; --data NAME gives other data, fastgan.metrics.evaluate takes those of Python"
        raise ValueError(f"{error}{advice}") from error
    features = FileFeatures(args.inception, system.device) if args.inception else args.features
    scores = evaluate(system, source, samples=args.samples, features=features, metrics=names, seed=args.seed)
    scores = Scores(scores.values, {"data": source.name, **scores.protocol, **_weights(args, exported)})
    print(scores)
    for file in files:
        replace_file(file, scores.json().encode())
    return 0


def _translations(
    args: argparse.Namespace, system: Any, names: list[str] | None, files: list[Path], exported: bool
) -> int:
    from fastgan.data import load
    from fastgan.data.kept import kept
    from fastgan.files import check_file, replace_file
    from fastgan.metrics.translation import evaluate
    from fastgan.runs.run import Run

    if args.inception is not None:
        raise ValueError(f"{args.run} translates pictures, whose features --features names: leave --inception out")
    if not exported and names is None:  # a part would take the place of the whole
        files.append(check_file(Run(args.run).path / "evaluation.json", what="the table"))
    data: Any
    if args.data:
        data, seen = load(args.data), False
    else:
        asked = Run(args.run).asked()
        data, seen = kept(asked.data, asked.white)
    found = evaluate(
        system, data, samples=args.samples, features=args.features or "small", metrics=names, seed=args.seed
    )
    said = {"data": data.name, **({"note": "it was trained on these pictures"} if seen else {})}
    found = replace(found, protocol={**said, **found.protocol, **_weights(args, exported)})
    print(found)
    for file in files:
        replace_file(file, found.json().encode())
    return 0


def _weights(args: argparse.Namespace, exported: bool) -> dict[str, Any]:
    from fastgan.runs.run import Run, versions

    if exported:
        return {"weights": str(args.run), **versions()}
    state = Run(args.run).read(args.checkpoint)
    averaged = state["ema"] is not None and not args.raw
    return {
        "checkpoint": f"{args.checkpoint}, step {state['step']}",
        "weights": "moving average" if averaged else "as trained",
        **versions(),
    }
