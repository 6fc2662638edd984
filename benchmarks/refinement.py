"""The protocol of SimGAN: a classifier trained on simulated, on refined and on real pictures, tested on real ones.

    python benchmarks/refinement.py [--simulated printed] [--real mnist] [--seeds 3] [--steps 1500] [--set KEY=VALUE]

The refiner sees no label of the real pictures; nothing is chosen by the test, which is `REAL@test`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from classifying import accuracy, spread

import fastgan
from fastgan.data import ImageData, load, to_uint8
from fastgan.data.gather import gather
from fastgan.options import from_text
from fastgan.runs.augment import augment
from fastgan.systems.simgan import SimGANConfig

RESULT = Path(__file__).parent / "results/refinement.json"


def refined(args: argparse.Namespace, source: ImageData, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As many pictures of each class as the rarest has."""
    with tempfile.TemporaryDirectory() as folder:
        options = from_text(SimGANConfig, dict(each.split("=", 1) for each in args.set), "system simgan")
        trainer = fastgan.Trainer(
            "simgan", f"{args.simulated}=>{args.real}", out=f"{folder}/run", seed=seed, steps=args.steps,
            batch_size=args.batch_size, ema=0.99, device="cpu", evaluate_every=0, preset="quick", **options,
        )  # fmt: skip
        trainer.fit()
        system = fastgan.load(f"{folder}/run", device="cpu")
    each = int(torch.bincount(source.labels).min())
    parts = list(augment(system, each, source))
    labels = torch.cat([torch.full((len(part.images),), part.label) for part in parts])
    return to_uint8(torch.cat([part.images for part in parts])), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", default="printed", help="pictures with labels (default: printed)")
    parser.add_argument("--real", default="mnist", help="real ones; labels serve the bound alone (default: mnist)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="of the refiner (default: 1500)")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--classifier-steps", type=int, default=300)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="options of simgan")
    args = parser.parse_args()
    simulated, real, test = (gather(load(name), 50_000) for name in (args.simulated, args.real, f"{args.real}@test"))
    results: dict[str, list[float]] = {"simulated": [], "refined": [], "real": []}
    for seed in range(args.seeds):
        given = {
            "simulated": (simulated.images, simulated.labels),
            "refined": refined(args, simulated, seed),
            "real": (real.images, real.labels),
        }
        for name, source in given.items():
            value = accuracy(
                [source], (test.images, test.labels), classes=len(test.classes), seed=seed, steps=args.classifier_steps
            )
            results[name].append(value)
            print(f"seed {seed}, {name}: {value:.1%}", flush=True)
    for name, values in results.items():
        print(f"{name}: {spread(values)} of {len(test.labels)} real pictures")
    RESULT.write_text(json.dumps({"asked": vars(args), "accuracy": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
