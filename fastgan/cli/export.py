"""fastgan export: the generator of a run as one file to give away."""

from __future__ import annotations

import argparse
import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "export",
        help="write the generator of a run as one file",
        description="Weights that `fastgan sample` and fastgan.load take (.safetensors), or latents to images without "
        "FastGAN: .pt2 of torch.export, .onnx for ONNX Runtime and others.",
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument(
        "--out",
        help="file that ends in .safetensors, .pt2 or .onnx (default: the run's name in this directory, .safetensors)",
    )
    parser.add_argument("--raw", action="store_true", help="the trained weights, not their moving average")
    parser.add_argument(
        "--checkpoint", choices=("last", "best", "previous"), default="last", help="of the run (default: last)"
    )
    parser.add_argument("--system", metavar="FILE:CLASS", help="of your own system, as my.py:MyGAN, which runs")


def run(args: argparse.Namespace) -> int:
    from fastgan.runs.export import export
    from fastgan.runs.run import quoted

    out = args.out or f"{Path(args.run).resolve().name}.safetensors"
    with _quiet():
        record = export(args.run, out, averaged=not args.raw, which=args.checkpoint, system=args.system)
    takes = "images" if "latent_shape" not in record else "latent, labels" if record["classes"] else "latent"
    draws = f"`fastgan sample {quoted(out)}` draws from it, " if "latent_shape" in record else ""
    how = {
        ".safetensors": f"{draws}fastgan.load({out!r}) loads it",
        ".pt2": f"torch.export.load({out!r}).module()({takes}) makes images, without FastGAN",
        ".onnx": f"inputs {takes}, output images",
    }
    kind = "latents" if "latent_shape" in record else "images"
    shape = ", ".join(map(str, record.get("latent_shape", record.get("image_shape", ()))))
    print(f"{out}: {how[Path(out).suffix.lower()]}; {kind} (N, {shape})")
    return 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporters say of packages and of themselves that does not concern a generator. For the
    process of this command: both settings are seen by all threads."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
