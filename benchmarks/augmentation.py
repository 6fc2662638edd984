"""What pictures of a GAN are worth to a classifier that has few real ones: with nothing else, with small movements
(classical augmentation), with pictures of `acgan` trained on the same few, and with both.

    python benchmarks/augmentation.py [--data mnist] [--images 10 20 50] [--seeds 5] [--steps 2000]

The GAN sees the few pictures alone, through DiffAugment. Nothing is chosen by the test, which is DATA@test.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from classifying import accuracy, spread
from torch import Tensor

import fastgan
from fastgan.data import ImageData, load, to_uint8
from fastgan.data.gather import gather
from fastgan.runs.augment import augment

RESULT = Path(__file__).parent / "results/augmentation.json"
SIDE = 32


def few(data: ImageData, count: int, seed: int) -> ImageData:
    """So many of each class."""
    random = torch.Generator().manual_seed(seed)
    rows = []
    for label in range(len(data.classes)):
        found = (data.labels == label).nonzero().flatten()
        rows.append(found[torch.randperm(len(found), generator=random)[:count]])
    chosen = torch.cat(rows)
    return ImageData(data.images[chosen], data.labels[chosen], data.classes, name=f"{count} of {data.name}")


def drawn(data: ImageData, args: argparse.Namespace, seed: int) -> tuple[Tensor, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        trainer = fastgan.Trainer(
            "acgan", data, out=f"{folder}/run", seed=seed, steps=args.steps, batch_size=50, device="cpu",
            evaluate_every=0, sample_every=0, preset="quick", augment="translation,cutout",
        )  # fmt: skip
        trainer.fit()
        parts = list(augment(fastgan.load(f"{folder}/run", device="cpu"), args.per_class, seed=seed))
    labels = torch.cat([torch.full((len(part.images),), part.label) for part in parts])
    return to_uint8(torch.cat([part.images for part in parts])), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--images", type=int, nargs="+", default=[10, 20, 50], help="real ones of each class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000, help="of the GAN (default: 2000)")
    parser.add_argument("--per-class", type=int, default=500, help="pictures of the GAN (default: 500)")
    parser.add_argument("--classifier-steps", type=int, default=300)
    args = parser.parse_args()
    train, test = (gather(load(name, SIDE), 50_000) for name in (args.data, f"{args.data}@test"))
    found: dict[str, dict[str, list[float]]] = {}
    for count in args.images:
        results = found[str(count)] = {"nothing": [], "classical": [], "gan": [], "both": []}
        for seed in range(args.seeds):
            real = few(train, count, seed)
            own, made = (real.images, real.labels), drawn(real, args, seed)
            for name, values in results.items():
                value = accuracy(
                    [own, made] if name in ("gan", "both") else [own], (test.images, test.labels),
                    classes=len(test.classes), seed=seed, steps=args.classifier_steps,
                    classical=name in ("classical", "both"),
                )  # fmt: skip
                values.append(value)
                print(f"{count} a class, seed {seed}, {name}: {value:.1%}", flush=True)
        for name, values in results.items():
            print(f"{count} a class, {name}: {spread(values)}")
    RESULT.write_text(json.dumps({"asked": vars(args), "accuracy": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
