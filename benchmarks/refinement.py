"""The protocol of SimGAN: a classifier trained on simulated, on refined and on real pictures, tested on real ones.

    python benchmarks/refinement.py [--seeds 3] [--looks 500 1000 1500] [--set KEY=VALUE] [--choose]

The refiner sees no label of the real pictures. `--choose` tests on the real pictures that it was trained toward, to
choose settings by, and writes nothing; otherwise the test is `REAL@test`, and nothing is chosen by it. At each look
stand beside the accuracy what needs no label: `convergence`, `patch_divergence`, and the L1 change of a picture.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from classifying import accuracy, spread

import fastgan
from fastgan import strict_json
from fastgan.bench.timing import machine
from fastgan.data import ImageData, load, to_uint8
from fastgan.data.gather import gather
from fastgan.data.pictures import to_float
from fastgan.metrics.patches import patch_divergence
from fastgan.options import from_text
from fastgan.runs.augment import augment
from fastgan.systems.simgan import SimGANConfig

RESULT = Path(__file__).parent / "results/refinement.json"


def mixed(images: torch.Tensor) -> torch.Tensor:
    """In another order, the same every time."""
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


def refined(
    args: argparse.Namespace, source: ImageData, real: ImageData, seed: int
) -> Iterator[tuple[tuple[torch.Tensor, torch.Tensor], dict[str, float]]]:
    """At each look as many pictures of each class as the rarest has, with labels, and what is said of them."""
    options = from_text(SimGANConfig, dict(each.split("=", 1) for each in args.set), "system simgan")
    each = int(torch.bincount(source.labels).min())
    raw = torch.cat([source.images[source.labels == label][:each] for label in range(len(source.classes))])
    labels = torch.arange(len(source.classes)).repeat_interleave(each)
    with tempfile.TemporaryDirectory() as folder:
        trainer = fastgan.Trainer(
            "simgan", f"{args.simulated}=>{args.real}", out=f"{folder}/run", seed=seed, steps=max(args.looks),
            batch_size=args.batch_size, ema=0.99, device="cpu", evaluate_every=0, sample_every=0, preset="quick",
            **options,
        )  # fmt: skip
        for look in sorted(args.looks):
            trainer.fit(look)
            parts = list(augment(fastgan.load(f"{folder}/run", device="cpu"), each, source))
            images = to_uint8(torch.cat([part.images for part in parts]))
            yield (
                (images, labels),
                {
                    "convergence": trainer.system.convergence() or 0.0,
                    "patch_divergence": patch_divergence(mixed(real.images), mixed(images)),
                    "change": (to_float(images) - to_float(raw)).abs().sum().item() / len(raw),
                },
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", default="printed", help="pictures with labels (default: printed)")
    parser.add_argument("--real", default="mnist", help="real ones; labels serve the bound alone (default: mnist)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--looks", type=int, nargs="+", default=[500, 1000, 1500], help="after so many steps")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--classifier-steps", type=int, default=300)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="options of simgan")
    parser.add_argument("--choose", action="store_true", help="test on the pictures to train toward; write nothing")
    args = parser.parse_args()
    names = (args.simulated, args.real, args.real if args.choose else f"{args.real}@test")
    simulated, real, test = (gather(load(name), 50_000) for name in names)
    results: dict[str, list[float]] = {}
    said: dict[str, list[dict[str, float]]] = {}

    def judge(name: str, source: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
        value = accuracy(
            [source], (test.images, test.labels), classes=len(test.classes), seed=seed, steps=args.classifier_steps
        )
        results.setdefault(name, []).append(value)
        print(f"seed {seed}, {name}: {value:.1%}", flush=True)

    for seed in range(args.seeds):
        judge("simulated", (simulated.images, simulated.labels), seed)
        for look, (source, values) in zip(sorted(args.looks), refined(args, simulated, real, seed)):
            judge(name := f"refined, {look} steps", source, seed)
            said.setdefault(name, []).append(values)
            print("   ", ", ".join(f"{key} {value:.3f}" for key, value in values.items()), flush=True)
        if not args.choose:
            judge("real", (real.images, real.labels), seed)
    for name, values in results.items():
        print(f"{name}: {spread(values)} of {len(test.labels)} real pictures")
    if not args.choose:
        found = {"machine": machine(), "asked": vars(args), "accuracy": results, "without labels": said}
        RESULT.write_text(strict_json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
