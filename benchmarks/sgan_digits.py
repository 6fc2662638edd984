"""What unlabelled images are worth: digits with few labels, told apart by `sgan` and by its discriminator alone.

    python benchmarks/sgan_digits.py [--labels 10] [--seeds 3] [--steps 2000]

Of the 1,797 digits 597, the same in every run, are the test; neither network sees them. Of the others `labels` of each
class have a label. Both networks have the same layers, first weights, optimizer, number of updates and moving average,
and see the labelled images in batches of the same size; nothing is chosen by the test.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import islice

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import fastgan
from fastgan.data import Batches, ImageData, load
from fastgan.data.pictures import to_float
from fastgan.systems.base import Phase, adam
from fastgan.systems.sgan import SGAN, SGANConfig
from fastgan.training import Step

TEST = 597
BATCH = 50


class Supervised(SGAN):
    """The discriminator, trained on the labelled images alone."""

    def prepare(self, batch):
        return self.labelled()

    def phases(self):
        return [
            Phase(
                "discriminator",
                (self.discriminator,),
                self.cross_entropy,
                adam(self.discriminator, self.config.learning_rate, self.config.betas),
            )
        ]

    def cross_entropy(self, state):
        images, labels = state
        return F.cross_entropy(self.discriminator(images).float(), labels), {}


def accuracy(kind: type[SGAN], train: ImageData, test: ImageData, seed: int, options: dict, steps: int) -> float:
    torch.manual_seed(seed)
    system = fastgan.fuse(kind(SGANConfig(**options)))
    batches = Batches(train, BATCH, seed=seed)
    system.begin(islice(batches, len(train.images) // BATCH))
    step = Step(system)
    average = AveragedModel(system.discriminator, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    for _ in range(steps):
        step(next(batches))
        average.update_parameters(system.discriminator)
    system.discriminator = average.module
    logits = system.classify(to_float(test.images))
    return (logits.argmax(1) == test.labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=10, help="labelled images a class (default: 10)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--steps", type=int, default=2000, help="updates of each network (default: 2000)")
    args = parser.parse_args()
    digits = load("digits", resolution=16)
    order = torch.randperm(len(digits.images), generator=torch.Generator().manual_seed(0))
    train, test = (
        ImageData(digits.images[part], digits.labels[part], digits.classes, name="digits")
        for part in (order[TEST:], order[:TEST])
    )
    options = {
        "resolution": 16, "channels": 1, "width": 16, "discriminator_width": 16, "learning_rate": 1e-3,
        "labels_per_class": args.labels, "labelled_batch": BATCH,
    }  # fmt: skip
    kinds = {"labels alone": Supervised, "with the unlabelled": SGAN}
    results: dict[str, list[float]] = {name: [] for name in kinds}
    for seed in range(args.seeds):
        for name, kind in kinds.items():
            results[name].append(accuracy(kind, train, test, seed, options, args.steps))
            print(f"seed {seed}, {name}: {results[name][-1]:.1%}", flush=True)
    for name, values in results.items():
        print(f"{name}: {statistics.mean(values):.1%} of {TEST} test images, {args.labels} labels a class")


if __name__ == "__main__":
    main()
