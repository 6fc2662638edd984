"""Everything beside everything: eight threads, each of which must get, bit for bit, what it gets alone, and nothing
that is left behind. FASTGAN_STRESS=60 goes on for a minute."""

from __future__ import annotations

import copy
import dataclasses
import gc
import io
import itertools
import logging
import os
import pickle
import random
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import fastgan
from fastgan.data import Batches, ImageData
from fastgan.data.decode import Unusable, decode, quiet
from fastgan.metrics import evaluate
from fastgan.metrics.classifier import Classifier
from fastgan.random import private
from fastgan.systems.dcgan import DCGAN, DCGANConfig
from fastgan.training import GraphedStep, Trainer

SECONDS = float(os.environ.get("FASTGAN_STRESS", "6"))
CONFIG = DCGANConfig(
    resolution=16, channels=1, width=4, latent=8, dropout=0.2, augment="color,cutout", r1=1.0, r1_every=2
)


def pictures() -> ImageData:
    pixels = torch.randint(0, 256, (40, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return ImageData(images=pixels, labels=torch.arange(40) % 2, classes=("a", "b"), captions=(), name="noise")


class Parts:
    """Each does its work from the beginning and returns tensors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count()
        with private(0):
            self.plain = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(784, 3)
            )
            self.images = torch.randn(6, 1, 16, 16)
            self.branching = Branching()
        self.pickle = pickle.dumps(fastgan.fuse(copy.deepcopy(self.branching)))
        self.run = self.trained("run")
        self.files = []
        for mode in "RGB", "P", "L":
            file = io.BytesIO()
            Image.effect_noise((40, 30), 90).convert(mode).save(file, "PNG")
            self.files += [file.getvalue(), file.getvalue()[:300]]

    def network(self) -> list[Tensor]:
        """A network that has nothing to do with FastGAN, forward, backward and pickled."""
        net = pickle.loads(pickle.dumps(copy.deepcopy(self.plain)))
        net(self.images).square().mean().backward()
        return [*net.state_dict().values(), *(parameter.grad for parameter in net.parameters())]

    def trained(self, name: str) -> Path:
        with private(6):
            system = fastgan.systems.create("dcgan", **dataclasses.asdict(CONFIG))
        Trainer(system, pictures(), out=self.folder / name, batch_size=8, samples=4).fit(1)
        return self.folder / name

    def train(self) -> list[Tensor]:
        with private(1):
            system = DCGAN(CONFIG)
        out = self.folder / f"run{next(self.numbers)}"
        trainer = Trainer(
            system, pictures(), out=out, batch_size=8, samples=4, log_every=2, sample_every=3, checkpoint_every=3
        )
        trainer.fit(4)
        assert "stopped at" not in (out / "log.txt").read_text()
        return [*system.state_dict().values(), trainer.preview()]

    def own_loop(self) -> list[Tensor]:
        with private(2):
            nets = nn.Linear(8, 1), nn.Linear(3, 8)
        phases = []
        for name, net in zip(("discriminator", "generator"), nets):
            loss = lambda x: nets[0](nets[1](x)).square().mean()  # noqa: E731
            phases.append(fastgan.Phase(name, (net,), loss, torch.optim.Adam(net.parameters())))
        step = GraphedStep(phases)
        losses = [step(torch.full((4, 3), float(number))) for number in range(5)]
        return [value for values in losses for value in values.values()]

    def batches(self) -> list[Tensor]:
        of_list = Batches([(image, 1) for image in self.images.clamp(-1, 1)], 3, flip=True)
        in_memory = Batches(pictures(), 8, seed=5)
        return [next(of_list).image, next(of_list).image, next(in_memory).image]

    def decoded(self) -> list[Tensor]:
        found = []
        for file in self.files:
            with quiet():
                try:
                    found.append(torch.from_numpy(decode(file, 16, 3)[0]))
                except Unusable as error:
                    found.append(torch.tensor([ord(letter) for letter in str(error)]))
        return found

    def options(self) -> list[Tensor]:
        with private(3):
            system = DCGAN(CONFIG)
        system.change(r1=2.0, label_smoothing=0.1)
        with private(4):
            return [system.sample(2), *system.state_dict().values()]

    def measured(self) -> list[Tensor]:
        with private(5):
            fake = torch.rand(40, 1, 16, 16) * 2 - 1
        report = evaluate(lambda count: fake[:count], pictures(), samples=40, metrics=["sliced_wasserstein"])
        return [torch.tensor(list(report.values.values()))]

    def fused(self) -> list[Tensor]:
        net = fastgan.fuse(copy.deepcopy(self.branching))
        net(self.images).square().mean().backward()
        results = [*net.state_dict().values(), *(parameter.grad for parameter in net.parameters())]
        return [*results, fastgan.unfuse(net)(self.images)]

    def explained(self) -> list[Tensor]:
        text = str(fastgan.explain(self.branching))
        return [torch.tensor([ord(letter) for letter in text])]

    def pickled(self) -> list[Tensor]:
        net = pickle.loads(self.pickle)
        return [net(self.images), copy.deepcopy(net).eval()(self.images)]

    def loaded(self) -> list[Tensor]:
        return [fastgan.load(self.run).sample(2, generator=torch.Generator().manual_seed(7))]

    def created(self) -> list[Tensor]:
        with private(8):
            system = fastgan.systems.create("sngan", resolution=32, width=4)
            return [system.sample(1), *system.state_dict().values()]

    def halves(self) -> list[Tensor]:
        net = fastgan.fuse(copy.deepcopy(self.plain))
        real, fake = fastgan.paired(net, self.images, -self.images, one_pass=True)
        return [real, fake, *net.state_dict().values()]


class Branching(nn.Module):
    """Not a Sequential: its forward is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.up, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x: Tensor, flip: Tensor | None = None) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        if flip is not None:
            x = x.flip(flip)
        return self.last(self.up(nn.functional.interpolate(x, scale_factor=2)).mean((2, 3)))


PARTS = [name for name in vars(Parts) if not name.startswith("_") and name != "trained"]
# Those of one row take turns in one thread.
TURNS = [
    ("network", "batches", "pickled"),
    ("train",),
    ("own_loop", "decoded", "halves"),
    ("options", "measured"),
    ("fused", "explained"),
    ("loaded",),
    ("created", "fused"),
]


def settings() -> dict[str, Any]:
    """What FastGAN might leave behind."""
    names = [None, "fastgan", "PIL", "torch"]
    loggers = [logging.getLogger(name) for name in names]
    inherited: list[int] = []
    thread = threading.Thread(target=lambda: inherited.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return {
        "nn.Module": {name: id(value) for name, value in vars(nn.Module).items()},
        "loggers": [(logger.level, logger.propagate, logger.disabled, list(logger.handlers)) for logger in loggers],
        "warnings": (list(warnings.filters), warnings.showwarning),
        "gc": (gc.isenabled(), gc.get_threshold()),
        "threads": (torch.get_num_threads(), inherited),
        "torch": torch.get_rng_state().tolist(),
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002
        "hooks": (sys.getprofile(), sys.gettrace(), sys.excepthook, threading.excepthook),
        "modes": (torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()),
        "defaults": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")),
    }


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.mark.slow
def test_nothing_is_seen_by_another_thread(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    alone: dict[str, list[Tensor]] = {name: getattr(parts, name)() for name in PARTS}
    dropout = nn.Dropout(0.4)
    torch.manual_seed(12)
    expected = [dropout(torch.ones(64)) for _ in range(400)]
    torch.manual_seed(12)
    before = settings()

    wrong: list[str] = []
    counts: dict[str, int] = dict.fromkeys(PARTS, 0)
    end = time.monotonic() + SECONDS

    def loop(names: tuple[str, ...]) -> None:
        for name in itertools.cycle(names):
            if time.monotonic() > end and all(counts[each] for each in names):
                break
            try:
                if not same(getattr(parts, name)(), alone[name]):
                    wrong.append(f"{name} gives other numbers than alone")
            except BaseException as error:
                wrong.append(f"{name} raises {error!r}")
            counts[name] += 1

    # One more, the only one that draws from torch's global generator: what it draws must be what it draws alone.
    drawn: list[Tensor] = []

    def draw() -> None:
        for _ in range(len(expected)):
            drawn.append(dropout(torch.ones(64)))
            time.sleep(SECONDS / 500)

    assert {name for names in TURNS for name in names} == set(PARTS)
    threads = [threading.Thread(target=loop, args=(names,)) for names in TURNS]
    threads.append(threading.Thread(target=draw, name="dropout"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not wrong, "\n".join(sorted(set(wrong)))
    assert not any(thread.is_alive() for thread in threads)
    assert all(counts.values()), counts
    assert same(drawn, expected)
    torch.manual_seed(12)
    after = settings()
    for name, value in before.items():
        assert after[name] == value, name


def test_sixteen_requests_of_four_threads(tmp_path: Path) -> None:
    run = Parts(tmp_path).run
    expected = fastgan.load(run).sample(1, generator=torch.Generator().manual_seed(7))
    before = settings()
    answers: list[Tensor] = []

    def serve() -> None:
        for _ in range(4):
            answers.append(fastgan.load(run).sample(1, generator=torch.Generator().manual_seed(7)))

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(answers) == 16
    assert all(torch.equal(answer, expected) for answer in answers)
    assert settings() == before


@pytest.mark.parametrize("name", PARTS)
def test_nothing_is_left_behind(tmp_path: Path, name: str) -> None:
    """Alone, in the main thread, from random states that are nobody's."""
    parts = Parts(tmp_path)
    before = settings()
    getattr(parts, name)()
    after = settings()
    for setting, value in before.items():
        assert after[setting] == value, setting


def test_features_of_a_classifier_beside_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgan.metrics.classifier.STEPS", 5)
    data = pictures()
    found: list[Tensor] = []

    def work(number: int) -> None:
        monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path / str(number)))
        found.append(Classifier(data.images, data.labels, 2)(data.images).features)

    work(0)
    before = settings()
    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 4
    after = settings()
    for setting, value in before.items():
        assert after[setting] == value, setting
