"""Each option that all systems of two players share does what it says, in every one of them, and nothing else."""

import copy

import pytest
import torch
from torch import nn

from fastgan.data import Batch
from fastgan.systems import create
from fastgan.systems.adversarial import AdversarialConfig, rate_at
from fastgan.training import Step
from tests.systems.plain_loop import images

CRITICS = ("wgan", "wgan-gp")
SYSTEMS = ("gan", "dcgan", "lsgan", "wgan", "wgan-gp", "sngan")


def make(name, **options):
    torch.manual_seed(0)
    small = {"resolution": 32, "channels": 1, "latent": 5, "width": 4, "discriminator_width": 4}
    return create(name, **{**small, **options}).double().train()


def prepared(system, count=4):
    torch.manual_seed(1)
    return system.prepare(Batch(image=images(system, 0, count * system.batches)))


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def dropouts(network):
    return [module.p for module in network.modules() if isinstance(module, nn.Dropout)]


@pytest.mark.parametrize("name", SYSTEMS)
class TestEverySystem:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_trains_on_32x32(self, name, channels):
        system = make(name, channels=channels).float()
        before = copy.deepcopy(system.state_dict())
        step = Step(system, precision="float32")
        values = step(Batch(image=images(system, 0, 2 * system.batches)))
        assert all(value.isfinite() for value in values.values())
        sides = (
            ("real", "fake") if name == "wgan" or name == "wgan-gp" else ("real", "fake", "real_right", "fake_right")
        )
        expected = {"generator/loss", "generator/fake", "discriminator/loss", *(f"discriminator/{v}" for v in sides)}
        assert set(values) == expected
        for network in ("generator", "discriminator"):
            moved = [key for key, value in system.named_parameters() if key.startswith(network)]
            assert all(not torch.equal(system.state_dict()[key], before[key]) for key in moved if "bias" not in key)
        samples = system.sample(2)
        assert samples.shape == (2, channels, 32, 32)
        assert samples.abs().max() <= 1

    def test_is_off_by_default(self, name):
        system = make(name)
        assert not dropouts(system)
        assert not system.config.r1
        assert system.augment.policy == ()
        assert all(phase.clip == 0 for phase in system.phases())
        assert all((phase.rate is None) is (name != "sngan") for phase in system.phases())
        assert not system.loss.label_smoothing
        assert not system.loss.label_noise
        assert not system.loss.label_flips

    def test_dropout_is_in_the_discriminator_alone(self, name):
        plain, system = make(name), make(name, dropout=0.3)
        assert dropouts(system.discriminator) == [0.3] * (len(plain.discriminator) - 1)
        assert not dropouts(system.generator)
        assert isinstance(system.discriminator[1], nn.Dropout)
        assert count(system) == count(plain)
        real = images(system, 0, 4)
        assert not torch.equal(system.logits(real), system.logits(real))
        assert torch.equal(system.eval().logits(real), system.logits(real))

    def test_discriminator_width(self, name):
        narrow, wide = make(name), make(name, discriminator_width=8)
        assert count(wide.discriminator) > 1.5 * count(narrow.discriminator)
        assert count(wide.generator) == count(narrow.generator)
        same = make(name, width=8, discriminator_width=None)
        assert count(same.discriminator) == count(wide.discriminator)

    @pytest.mark.parametrize("option", ["label_smoothing", "label_noise", "label_flips"])
    def test_labels_reach_the_discriminators_loss(self, name, option):
        share = {"label_smoothing": 0.2, "label_noise": 0.2, "label_flips": 1.0}[option]
        if name in CRITICS:
            with pytest.raises(ValueError, match=f"{name} has no option '{option}': a critic has no targets"):
                make(name, **{option: share})
            return
        plain, system = make(name), make(name, **{option: share})
        state = prepared(system)
        real, fake = system.part(state, 0)
        logits = plain.logits(real), plain.logits(fake)
        torch.manual_seed(2)
        expected = type(plain.loss)(**{option: share}).discriminator(*logits).item()
        torch.manual_seed(2)
        loss = sum(loss for loss, _ in system.told_apart(real, fake)).item()
        assert abs(loss - plain.loss.discriminator(*logits).item()) > 1e-9
        assert getattr(system.loss, option) == share
        if option != "label_noise":  # whose random numbers may be drawn for one batch after the other
            assert loss == pytest.approx(expected, abs=1e-9)
        plain.load_state_dict(system.state_dict())
        generated = plain.logits(state.fake)
        assert system.generator_loss(state)[0].item() == pytest.approx(plain.loss.generator(generated).item(), abs=1e-9)

    def test_augmentation_is_of_real_and_fake_in_both_phases(self, name):
        system = make(name, augment="translation,color")
        assert set(system.augment.policy) == {"color", "translation"}
        state = prepared(system)
        seen = []

        class Seen(nn.Module):
            def forward(self, x):
                seen.append(x)
                return x / 2

        system.augment = Seen()
        given = []
        system.discriminator.register_forward_pre_hook(lambda module, args: given.append(args[0]))
        list(system.discriminator_loss(state))
        real, fake = state.real[:4], state.fake[:4]
        assert any(torch.equal(x, real) for x in seen)
        assert any(torch.equal(x, fake) for x in seen)
        halves = [x / 2 for x in seen]
        assert all(any(torch.equal(x, half) for half in halves) for x in given)  # nothing else is looked at
        seen.clear(), given.clear()
        system.generator_loss(state)[0].backward()
        assert len(seen) == 1
        assert torch.equal(seen[0], state.fake)
        assert torch.equal(given[0], state.fake / 2)
        assert any(parameter.grad is not None for parameter in system.generator.parameters())

    def test_r1_every_third_update(self, name):
        system = make(name, r1=2.0, r1_every=3)
        real, fake = (images(system, seed, 4) for seed in (0, 1))
        amounts = []
        for _ in range(4):
            twin = copy.deepcopy(system)
            at = real.clone().requires_grad_()
            penalties = [loss for loss, _ in system.penalties(real, fake)]
            (slope,) = torch.autograd.grad(twin.logits(at).sum(), at)
            expected = 3 * 2.0 / 2 * slope.square().sum((1, 2, 3)).mean()
            own = 1 if name == "wgan-gp" else 0
            amounts.append(len(penalties) - own)
            if len(penalties) > own:
                assert penalties[-1].item() == pytest.approx(expected.item(), rel=1e-9)
        assert amounts == [1, 0, 0, 1]

    def test_discriminator_steps(self, name):
        system = make(name, discriminator_steps=3)
        assert system.batches == 3
        phases = system.phases()
        assert [phase.name for phase in phases] == ["discriminator"] * 3 + ["generator"]
        assert len({id(phase.optimizer) for phase in phases}) == 2
        assert phases[0].networks == (system.discriminator,)
        assert phases[-1].networks == (system.generator,)
        state = prepared(system)
        parts = [system.part(state, number) for number in range(3)]
        assert torch.equal(torch.cat([real for real, _ in parts]), state.real)
        assert torch.equal(parts[0][1], state.fake[:4])
        assert not any(fake.requires_grad for _, fake in parts)
        fakes = [fake for _, fake in parts]
        assert all(fake.shape == (4, 1, 32, 32) for fake in fakes)
        assert not torch.equal(fakes[1], fakes[2])
        assert not torch.equal(fakes[0], fakes[1])

    def test_generator_batches(self, name):
        system = make(name, generator_batches=3)
        assert prepared(system).fake.shape == (12, 1, 32, 32)

    def test_a_wrong_number_of_images(self, name):
        system = make(name, discriminator_steps=3)
        with pytest.raises(ValueError, match="a step takes 3 batches of one size, put together, not 4 rows"):
            system.prepare(Batch(image=images(system, 0, 4)))

    def test_optimizers(self, name):
        system = make(name, learning_rate=1e-3, discriminator_learning_rate=4e-3, clip_gradients=2.5)
        *first, last = system.phases()
        assert {group["lr"] for phase in first for group in phase.optimizer.param_groups} == {4e-3}
        assert {group["lr"] for group in last.optimizer.param_groups} == {1e-3}
        assert {phase.clip for phase in (*first, last)} == {2.5}
        for phase in (first[0], last):
            given = [parameter for group in phase.optimizer.param_groups for parameter in group["params"]]
            assert {id(p) for p in given} == {id(p) for network in phase.networks for p in network.parameters()}

    def test_decay(self, name):
        system = make(name, decay="linear", decay_from=10, decay_steps=100)
        assert [[phase.rate(step) for step in (0, 10, 60, 110, 500)] for phase in system.phases()] == [
            [1, 1, 0.5, 0, 0]
        ] * len(system.phases())

    def test_is_not_conditional(self, name):
        system = make(name)
        with pytest.raises(ValueError, match="not conditional"):
            system.generate(system.latent(2), torch.zeros(2, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"latent must have shape \(N, 5\), not \(2, 6\)"):
            system.generate(torch.zeros(2, 6, dtype=torch.float64))


@pytest.mark.parametrize(
    ("decay", "shares"),
    [
        ("none", [1, 1, 1, 1, 1, 1]),
        ("linear", [1, 1, 0.75, 0.5, 0, 0]),
        ("cosine", [1, 1, 0.8535533905932737, 0.5, 0, 0]),
        ("halve", [1, 1, 1, 1, 0.5, 0.25]),
    ],
)
def test_rates(decay, shares):
    config = AdversarialConfig(decay=decay, decay_from=100, decay_steps=0 if decay == "none" else 40)
    assert [rate_at(config, step) for step in (0, 100, 110, 120, 140, 180)] == pytest.approx(shares, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator_steps": 0}, "discriminator_steps must be at least 1, not 0"),
        ({"generator_batches": 0}, "generator_batches must be at least 1, not 0"),
        ({"discriminator_width": 0}, "discriminator_width must be at least 1, not 0"),
        ({"discriminator_learning_rate": -1.0}, "discriminator_learning_rate must be above 0, not -1.0"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, not 1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"label_flips": 1.5}, "label_flips"),
        ({"label_noise": -0.1}, "label_noise"),
        (
            {"augment": "color,rotation"},
            "augment must be any of color, translation, cutout, with commas between, not 'rotation'",
        ),
        ({"r1": -1.0}, "r1 must be at least 0, not -1.0"),
        ({"r1_every": 0}, "r1_every must be at least 1, not 0"),
        ({"clip_gradients": float("nan")}, "clip_gradients must be a finite number, not nan"),
        ({"decay": "exponential"}, "decay must be one of none, linear, cosine, halve, not 'exponential'"),
        ({"decay": "linear"}, "decay 'linear' and decay_steps 0 do not belong together"),
        ({"decay_steps": 5}, "decay 'none' and decay_steps 5 do not belong together"),
        ({"decay": "halve", "decay_steps": 5, "decay_from": -1}, "decay_from must be at least 0, not -1"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        create("gan", **options)
