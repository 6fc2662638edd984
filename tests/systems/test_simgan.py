"""SimGAN against the layers, the losses and algorithm 1 of its paper."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.data import Apart, Batch, ImageData, Images, Together
from fastgan.networks.refiner import Refiner, local_discriminator
from fastgan.systems import create
from fastgan.systems.simgan import SimGAN
from fastgan.training import Step, Trainer
from tests.systems.plain_loop import conv, leaves, weights

N = 4
SMALL = {"resolution": 12, "channels": 1, "width": 4, "blocks": 2, "discriminator_width": 6, "history": 6}
STAGES = {"pretraining": 1, "discriminator_pretraining": 1}


def small(**options):
    torch.manual_seed(0)
    return create("simgan", **{**SMALL, **STAGES, **options})


def pictures(seed, count, dtype=torch.float32):
    values = torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (values * 2 - 1).to(dtype)


def batch(system, seed):
    count = N * system.batches
    return Batch(a=pictures(2 * seed, count, system.dtype), b=pictures(2 * seed + 1, count, system.dtype))


class TestArchitecture:
    def test_the_papers(self):
        refiner, discriminator = Refiner(), local_discriminator()
        convolutions = [m for m in refiner.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in convolutions] == [
            (1, 64, 3, 1), *[(64, 64, 3, 1)] * 8, (64, 1, 1, 1)
        ]  # fmt: skip
        assert sum(p.numel() for p in refiner.parameters()) == 640 + 8 * (64 * 64 * 9 + 64) + 65
        convolutions = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in convolutions] == [
            (1, 96, 3, 2), (96, 64, 3, 2), (64, 32, 3, 1), (32, 32, 1, 1), (32, 2, 1, 1)
        ]  # fmt: skip
        (pool,) = [m for m in discriminator.modules() if isinstance(m, nn.MaxPool2d)]
        assert (pool.kernel_size, pool.stride) == (3, 1)
        assert not any(isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d) for m in refiner.modules())
        eye = torch.zeros(2, 1, 35, 55)
        assert refiner(eye).shape == eye.shape
        assert discriminator(eye).shape == (2, 2, 9, 14)

    def test_a_logit_sees_23_pixels(self):
        image = torch.randn(1, 1, 64, 64, requires_grad=True)
        network = local_discriminator(width=12)
        for module in network.modules():  # else a ReLU or a maximum may hide a pixel
            if isinstance(module, nn.Conv2d):
                nn.init.uniform_(module.weight, 0.5, 1)
        seen = set()
        for _ in range(8):
            (gradient,) = torch.autograd.grad(
                network(torch.rand_like(image) + image * 0 + 1e-3 * image)[0, 1, 8, 8], image
            )
            seen |= {tuple(place) for place in gradient[0, 0].nonzero().tolist()}
        rows = [row for row, _ in seen]
        assert max(rows) - min(rows) + 1 <= 23
        assert max(rows) - min(rows) + 1 >= 20

    def test_the_refiner_looks_as_far_as_its_halo(self):
        system = small()
        assert system.halo == 5
        image = torch.randn(1, 1, 21, 21)
        other = image.clone()
        other[..., 10, 4] += 1
        moved = (system.translate(image) != system.translate(other))[0, 0].nonzero()
        assert (moved - torch.tensor([10, 4])).abs().max() <= 5
        assert system.translate(torch.zeros(2, 1, 30, 17)).shape == (2, 1, 30, 17)

    def test_every_site_is_fused(self):
        report = fastgan.explain(small())
        assert report.fused == report.places > 0

    def test_fused_equals_unfused(self):
        system = small().double()
        image = pictures(3, 2, torch.float64)
        fused = system.translate(image), system.discriminator(image)
        system = fastgan.unfuse(system)
        plain = system.translate(image), system.discriminator(image)
        assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(fused, plain))

    def test_the_classes_of_a_patch(self):
        """The second is real: a discriminator that says so has a low loss on real ones."""
        system = small(history=0)
        with torch.no_grad():
            system.discriminator[-1].weight.zero_()
            system.discriminator[-1].bias.copy_(torch.tensor([0.0, 3.0]))
        state = system.prepare(batch(system, 0))
        _, logged = system.discriminator_loss(state, 0)
        assert logged["real"] > 0.9
        assert logged["real_right"] == 1
        assert logged["fake_right"] == 0


class Plain:
    """Algorithm 1 in plain PyTorch, with a buffer that is a list."""

    def __init__(self, r, d, config):
        self.r, self.d, self.config = r, d, config
        self.buffer: list = []
        make = {
            "sgd": lambda p: torch.optim.SGD(leaves(p), lr=config.learning_rate),
            "adam": lambda p: torch.optim.Adam(leaves(p), lr=config.learning_rate, betas=(0.9, 0.999)),
        }[config.optimizer]
        self.of_r, self.of_d = make(r), make(d)

    def refine(self, x):
        x = F.relu(conv(x, self.r, "network.0"))
        for block in range(self.config.blocks):
            name = f"network.{2 + block}.branch"
            x = F.relu(x + conv(F.relu(conv(x, self.r, f"{name}.0")), self.r, f"{name}.2"))
        return torch.tanh(conv(x, self.r, f"network.{2 + self.config.blocks}"))

    def classes(self, x):
        x = F.relu(conv(F.relu(conv(x, self.d, "0", 2)), self.d, "2", 2))
        x = F.max_pool2d(x, 3, 1, 1)
        return conv(F.relu(conv(F.relu(conv(x, self.d, "5")), self.d, "7")), self.d, "9")

    def cross_entropy(self, x, which):
        logits = self.classes(x)
        target = torch.full((len(x), *logits.shape[2:]), which)
        return F.cross_entropy(logits, target, reduction="sum") / len(x)

    def shown(self, fresh):
        """Half from the history: the random numbers are those of ImagePool, the rest is the paper's."""
        size = self.config.history
        count = min(len(fresh), size)
        keys, coins = torch.rand(size), torch.rand(count)
        room, filled = size - len(self.buffer), len(self.buffer)
        order = [place for place in keys.argsort().tolist() if place < filled]
        result = [image.clone() for image in fresh]
        stored = [image.clone() for image in fresh[:room]]
        for number in range(room, count):
            if coins[number] < 0.5 and number < len(order):
                place = order[number]
                result[number], self.buffer[place] = self.buffer[place], fresh[number].clone()
        self.buffer += stored
        return torch.stack(result)

    def update(self, optimizer, loss):
        for value in [*leaves(self.r), *leaves(self.d)]:
            value.grad = None
        loss.backward()
        optimizer.step()

    def step(self, number, batch):
        c = self.config
        turns = batch.a.split(N)
        refined_only = number < c.pretraining
        together = number >= c.pretraining + c.discriminator_pretraining
        for x in turns[:1] if refined_only else turns[: c.refiner_steps] if together else ():
            made = self.refine(x)
            change = sum((one - other).abs().sum() for one, other in zip(made, x)) / N
            loss = c.regularization * change
            self.update(self.of_r, loss if refined_only else loss + self.cross_entropy(made, 1))
        for x, y in zip(turns[c.refiner_steps :], batch.b.split(N)) if not refined_only else ():
            fake = self.shown(self.refine(x).detach())
            self.update(self.of_d, self.cross_entropy(y, 1) + self.cross_entropy(fake, 0))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam"},
        {"optimizer": "sgd", "refiner_steps": 3, "discriminator_steps": 2, "regularization": 0.1},
        {"pretraining": 0, "discriminator_pretraining": 0, "history": 3},
        {"pretraining": 3},
        {"pretraining": 0, "discriminator_pretraining": 3, "discriminator_steps": 2},
    ],
    ids=str,
)
def test_three_steps(options):
    system = small(learning_rate=1e-3, **options).double()
    networks = system.refiner, system.discriminator
    plain = Plain(*map(weights, networks), system.config)
    before = [weights(network) for network in networks]
    ours = Step(system, precision="float32", channels_last=False)
    for number in range(3):
        torch.manual_seed(number)
        values = ours(batch(system, number))
        torch.manual_seed(number)
        plain.step(number, batch(system, number))
    for network, copy in zip(networks, (plain.r, plain.d)):
        for name, value in network.state_dict().items():
            assert (value - copy[name]).abs().max() <= 1e-8, name
    held = system.history.images[: len(plain.buffer)]
    assert len(plain.buffer) == system.history.filled
    assert not plain.buffer or (held - torch.stack(plain.buffer)).abs().max() <= 1e-8
    c = system.config
    moved = [
        any((value - first[name]).abs().max() > 1e-7 for name, value in network.state_dict().items())
        for network, first in zip(networks, before)
    ]
    assert moved == [c.pretraining > 0 or c.discriminator_pretraining < 3, c.pretraining < 3]
    assert ("refiner/fake" in values) == (c.pretraining + c.discriminator_pretraining < 3)


def test_updates_a_step():
    step = Step(small(refiner_steps=3, discriminator_steps=2))
    names = [(phase.name, phase.when(0), phase.when(1), phase.when(2)) for phase in step.phases]
    assert names == [
        ("refiner", True, False, False),
        *[("refiner", False, False, True)] * 3,
        *[("discriminator", False, True, False)] * 2,
        *[("discriminator", False, False, True)] * 2,
    ]


class TestConvergence:
    def test_nothing_before_the_end_of_the_pretraining(self):
        system = small()
        step = Step(system)
        found = []
        for number in range(3):
            step(batch(system, number))
            found.append(system.convergence() is not None)
        assert found == [False, False, True]

    def test_what_it_is(self):
        """0 at chance without a change; log 2 where every patch is told; the change of a patch, weighted."""
        system = small(regularization=0.25)
        system.measure(torch.tensor(2 * math.log(2)), torch.tensor(0.0))
        assert system.convergence() == pytest.approx(0, abs=1e-6)
        system = small(regularization=0.25)
        system.measure(torch.tensor(0.0), torch.tensor(0.0))
        assert system.convergence() == pytest.approx(math.log(2))
        system.measure(torch.tensor(2 * math.log(2)), torch.tensor(4.0))
        assert system.convergence() == pytest.approx((math.log(2) + 1) / 2)  # the mean

    def test_of_a_step(self):
        system = small(pretraining=0, discriminator_pretraining=0, history=0).double()
        state = system.prepare(batch(system, 0))
        loss, _ = system.discriminator_loss(state, 0, measures=True)
        x = state.simulated[-N:]
        with torch.no_grad():
            change = (system.refiner(x) - x).abs().sum() / N
        expected = math.log(2) - loss.item() / 9 / 2 + 0.5 * change.item() / 9
        assert system.convergence() == pytest.approx(expected)


class TestOptionsThatFollow:
    @pytest.mark.parametrize(("side", "resolution"), [(28, 28), (40, 40), (300, 64)])
    def test_resolution(self, side, resolution):
        fields = {"a": Images(1, side, side + 9), "b": Images(1, side + 5, side)}
        found = type(small()).options_for(fields, {})
        assert found == {"channels": 1, "resolution": resolution}
        assert type(small()).options_for(fields, {"resolution": 16}) == {"channels": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adam, not 'lion'"),
        ({"refiner_steps": 0}, "refiner_steps must be at least 1, not 0"),
        ({"regularization": -1.0}, "regularization must be at least 0, not -1.0"),
        ({"history": -1}, "history must be at least 0, not -1"),
        ({"pretraining": -1}, "pretraining must be at least 0, not -1"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        create("simgan", **options)


def test_a_batch_of_another_size():
    system = small()
    with pytest.raises(ValueError, match="a step takes 3 batches of one size, put together, not 4 rows"):
        system.prepare(Batch(a=pictures(0, 4), b=pictures(1, 4)))


class TestRuns:
    @pytest.fixture
    def data(self):
        def images(seed):
            random = torch.Generator().manual_seed(seed)
            return ImageData(
                torch.randint(0, 256, (40, 1, 12, 12), dtype=torch.uint8, generator=random), name=str(seed)
            )

        return Apart("noise", [Together(name, {name: (images(i), "image")}) for i, name in enumerate("ab")])

    def trainer(self, data, out, **settings):
        given = {
            **SMALL, "pretraining": 2, "discriminator_pretraining": 2, "optimizer": "adam", "batch_size": 4, "steps": 6,
            "samples": 4, "log_every": 1, "sample_every": 0, "evaluate_every": 1, "metric": "convergence",
        }  # fmt: skip
        return Trainer("simgan", data, out=out, **{**given, **settings})

    @pytest.mark.slow
    @pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
    def test_resumes_bit_for_bit_in_every_stage(self, data, tmp_path, stop):
        whole = self.trainer(data, tmp_path / "whole")
        whole.fit()
        self.trainer(data, tmp_path / "parts").fit(stop)
        again = Trainer.resume(tmp_path / "parts", data=data)
        again.fit(6)
        for name, value in whole.system.state_dict().items():
            assert torch.equal(value, again.system.state_dict()[name]), name

    @pytest.mark.slow
    def test_ends_by_its_losses_and_looks_only_after_the_pretraining(self, data, tmp_path, monkeypatch):
        said = iter([None, None, 0.5, 0.3, 0.4, 0.4, 0.2])
        monkeypatch.setattr(SimGAN, "convergence", lambda self: next(said))
        trainer = self.trainer(data, tmp_path / "run", steps=20, patience=2)
        trainer.fit()
        assert trainer.step == 6
        assert trainer.evaluation.best == {"score": 0.3, "step": 4}

    def test_convergence_of_a_system_that_does_not_say(self, tmp_path):
        with pytest.raises(ValueError, match="convergence is measured by systems such as simgan; dcgan needs another"):
            Trainer("dcgan", "digits", out=tmp_path / "run", resolution=16, width=4, metric="convergence")
        assert not (tmp_path / "run").exists()
