"""The step against the loop of pytorch/examples dcgan/main.py, written out in plain PyTorch."""

import pytest
import torch
from torch import nn

from fastgan import backend
from fastgan.data import Batch
from fastgan.systems import Generative, Phase, create
from fastgan.training import GraphedStep, Step


def official(width=8, latent=8, channels=1):
    """Generator and discriminator of the example, at 16x16."""
    generator = nn.Sequential(
        nn.ConvTranspose2d(latent, 2 * width, 4, 1, 0, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(True),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(True),
        nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * width, 1, 4, 1, 0, bias=False),
        nn.Sigmoid(),
    )
    return generator, discriminator


def official_step(generator, discriminator, optimizers, real, noise):
    criterion = nn.BCELoss()
    ones, zeros = torch.ones(len(real), dtype=real.dtype), torch.zeros(len(real), dtype=real.dtype)
    discriminator.zero_grad()
    on_real = criterion(discriminator(real).view(-1), ones)
    on_real.backward()
    fake = generator(noise)
    on_fake = criterion(discriminator(fake.detach()).view(-1), zeros)
    on_fake.backward()
    optimizers[0].step()
    generator.zero_grad()
    generator_loss = criterion(discriminator(fake).view(-1), ones)
    generator_loss.backward()
    optimizers[1].step()
    return (on_real + on_fake).item(), generator_loss.item()


def batch(seed, dtype=torch.float32, count=6):
    values = torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return Batch(image=values * 2 - 1)


class TestSameAsTheOfficialLoop:
    def pair(self, tiny, dtype):
        system = tiny().to(dtype)
        networks = official()
        for ours, theirs in zip((system.generator, system.discriminator), networks):
            theirs.to(dtype)
            tensors = list(ours.state_dict().values())
            theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
        optimizers = [torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in networks[::-1]]
        return system, networks, optimizers

    # float64 leaves no room for an error in the method to hide in; float32 is what people train in.
    # Adam turns a gradient near 0 into a step of +-learning rate, so float32 weights may differ by a few of those.
    @pytest.mark.parametrize(
        ("dtype", "loss_error", "weight_error"), [(torch.float64, 1e-10, 1e-9), (torch.float32, 2e-5, 2e-4)]
    )
    @pytest.mark.parametrize("channels_last", [True, False])
    def test_three_steps(self, tiny, dtype, loss_error, weight_error, channels_last):
        system, networks, optimizers = self.pair(tiny, dtype)
        step = Step(system, precision="float32", channels_last=channels_last)
        for seed in range(3):
            data = batch(seed, dtype)
            torch.manual_seed(seed)
            ours = step(data)
            torch.manual_seed(seed)
            noise = torch.randn(6, 8, 1, 1, dtype=dtype)
            theirs = official_step(*networks, optimizers, data.image, noise)
            assert ours["discriminator/loss"].item() == pytest.approx(theirs[0], abs=loss_error)
            assert ours["generator/loss"].item() == pytest.approx(theirs[1], abs=loss_error)
        for mine, network in zip((system.generator, system.discriminator), networks):
            for (name, value), other in zip(mine.state_dict().items(), network.state_dict().values(), strict=True):
                error = (value.double() - other.double()).abs()
                assert error.max() <= 2e-4 * 6, name
                assert error.mean() <= weight_error / 10, name


class TestFreezing:
    def test_the_discriminator_gets_no_gradient_from_the_generator_phase(self, tiny):
        system = tiny()
        step = Step(system, precision="float32")
        seen = {}
        for phase in step.phases:
            phase.optimizer.step = lambda name=phase.name: seen.update(
                {name: {key: value.grad is not None for key, value in system.named_parameters()}}
            )
            phase.optimizer.zero_grad = lambda set_to_none: system.zero_grad(set_to_none)
        step(batch(0))
        assert seen["discriminator"] == {name: name.startswith("discriminator") for name in seen["discriminator"]}
        assert seen["generator"] == {name: name.startswith("generator") for name in seen["generator"]}

    def test_restores_what_was_trainable(self, tiny):
        system = tiny()
        system.generator[0].conv.weight.requires_grad_(False)
        before = system.generator[0].conv.weight.clone()
        step = Step(system, precision="float32")
        step(batch(0))
        trainable = {name for name, value in system.named_parameters() if not value.requires_grad}
        assert trainable == {"generator.0.conv.weight"}
        assert torch.equal(system.generator[0].conv.weight, before)

    def test_restores_after_an_error(self, tiny):
        system = tiny()
        step = Step(system, precision="float32")
        with pytest.raises(RuntimeError):
            step(Batch(image=torch.zeros(4, 2, 16, 16)))
        assert all(parameter.requires_grad for parameter in system.parameters())


class Twice(Generative):
    """Two phases that train the same weight and report the value they computed with."""

    name = "twice"

    def __init__(self):
        super().__init__(None)
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.layer.weight)

    def phases(self):
        def loss(batch):
            value = self.layer(batch).sum()
            return value, {"value": value.detach()}

        return [Phase(name, (self.layer,), loss, torch.optim.SGD(self.parameters(), lr=0.25)) for name in "ab"]

    def latent(self, count, generator=None):
        raise NotImplementedError

    def generate(self, latent, labels=None):
        raise NotImplementedError


class TestPrecision:
    def test_no_phase_sees_weights_cast_before_an_update(self):
        step = Step(Twice(), precision="bfloat16", channels_last=False)
        values = step(torch.ones(1, 1))
        assert (values["a/value"].item(), values["b/value"].item()) == (1.0, 0.75)

    def test_bfloat16_keeps_float32_weights_and_losses(self, tiny):
        system = tiny()
        seen = []
        system.generator[1].conv.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
        values = Step(system, precision="bfloat16")(batch(0))
        assert seen == [torch.bfloat16]  # and the generator ran once
        assert {value.dtype for value in values.values()} == {torch.float32}
        assert {parameter.dtype for parameter in system.parameters()} == {torch.float32}

    def test_auto_is_float32_for_points(self, monkeypatch):
        monkeypatch.setattr(backend, "autocast_dtype", lambda device: torch.bfloat16)
        system = create("gan", resolution=1, channels=2, width=2)
        assert Step(system).autocast_dtype is None
        assert Step(system, precision="bfloat16").autocast_dtype is torch.bfloat16

    @pytest.mark.parametrize("fast", [torch.bfloat16, torch.float32])
    def test_auto_follows_the_hardware(self, tiny, monkeypatch, fast):
        monkeypatch.setattr(backend, "autocast_dtype", lambda device: fast)
        system = tiny()
        seen = []
        system.generator[1].conv.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
        Step(system)(batch(0))
        Step(system, precision="float32")(batch(0))
        assert seen == [fast, torch.float32]

    def test_says_what_is_wrong(self, tiny):
        with pytest.raises(ValueError, match="precision must be one of auto, float32, bfloat16, float16, not 'fp16'"):
            Step(tiny(), precision="fp16")

    def test_layout(self, tiny):
        assert Step(tiny()).system.discriminator[1].conv.weight.is_contiguous(memory_format=torch.channels_last)
        assert Step(tiny(), channels_last=False).system.discriminator[1].conv.weight.is_contiguous()


def test_logged_values(tiny):
    values = Step(tiny(), precision="float32")(batch(0))
    assert list(values) == [
        "discriminator/loss",
        "discriminator/real",
        "discriminator/fake",
        "discriminator/real_right",
        "discriminator/fake_right",
        "generator/loss",
        "generator/fake",
    ]
    assert not any(value.requires_grad for value in values.values())
    assert all(value.shape == () for value in values.values())
    assert 0 < values["discriminator/real"] < 1


class Parts(Twice):
    """One phase whose loss comes in two parts, or at once."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts
        self.graphs = []  # of each part, asked for after its backward pass

    def phases(self):
        def part(batch, factor):
            loss = (factor * self.layer(batch)).square().sum()
            return loss, {"value": loss.detach(), f"only {factor}": loss.detach()}

        def in_parts(batch):
            for factor in (1.0, 3.0):
                loss, logged = part(batch, factor)
                yield loss, logged
                self.graphs.append(loss)

        def at_once(batch):
            (one, logged), (three, more) = part(batch, 1.0), part(batch, 3.0)
            return one + three, {**logged, **more, "value": one.detach() + three.detach()}

        loss = {2: in_parts, 1: at_once, 0: lambda batch: iter(())}[self.parts]
        return [Phase("p", (self.layer,), loss, torch.optim.SGD(self.parameters(), lr=0.125))]


class TestLossInParts:
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_is_the_sum_of_its_parts(self, precision):
        whole, parts = (Step(Parts(count), precision=precision, channels_last=False) for count in (1, 2))
        for value in (1.0, 2.0):
            expected, got = whole(torch.full((2, 1), value)), parts(torch.full((2, 1), value))
            assert got == expected
            assert not any(value.requires_grad for value in got.values())
            assert torch.equal(parts.system.layer.weight, whole.system.layer.weight)

    def test_each_part_is_propagated_before_the_next_is_made(self):
        system = Parts(2)
        Step(system, precision="float32", channels_last=False)(torch.ones(2, 1))
        for loss in system.graphs:
            with pytest.raises(RuntimeError, match="backward through the graph a second time"):
                loss.backward()

    def test_no_part(self):
        with pytest.raises(ValueError, match="the loss of phase 'p' gave no part"):
            Step(Parts(0), precision="float32", channels_last=False)(torch.ones(2, 1))


class TestStages:
    """A phase that has a part in some of the steps."""

    def step(self, *whens):
        networks = [nn.Linear(2, 1) for _ in whens]
        return GraphedStep(
            [
                Phase(
                    f"phase {number}", (network,), lambda x, network=network: network(x).mean(), sgd(network), when=when
                )
                for number, (network, when) in enumerate(zip(networks, whens))
            ]
        ), networks

    def test_it_moves_and_logs_in_its_steps_alone(self):
        step, networks = self.step(lambda number: number < 2, None, lambda number: number >= 1)
        logged = []
        for _ in range(3):
            before = [network.weight.clone() for network in networks]
            values = step(torch.ones(3, 2))
            moved = [not torch.equal(network.weight, weight) for network, weight in zip(networks, before)]
            assert [f"phase {number}/loss" in values for number in range(3)] == moved
            logged.append(moved)
        assert logged == [[True, True, False], [True, True, True], [False, True, True]]

    def test_the_number_of_the_step_decides(self):
        step, _ = self.step(None, lambda number: number >= 7)
        step.number = 7  # as of a run that goes on
        assert "phase 1/loss" in step(torch.ones(3, 2))

    def test_a_step_of_none(self):
        with pytest.raises(ValueError, match="no phase has a part in step 0"):
            self.step(lambda number: number > 0)[0](torch.ones(3, 2))


def sgd(network):
    return torch.optim.SGD(network.parameters(), lr=0.1)
