"""SRGAN against its paper: figure 4, section 2, and the settings of section 3."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan import Trainer, unfuse
from fastgan.data import Batch
from fastgan.pretrained import features
from fastgan.systems import create
from fastgan.systems.srgan import shrunk
from fastgan.training import Step
from tests.systems.every import noise
from tests.systems.plain_loop import batch_norm, conv, images, leaves, linear, same_after_three_steps
from tests.training.states import same, state

QUIET = {"sample_every": 0, "evaluate_every": 0, "health": False, "precision": "float32", "batch_size": 4}
SMALL = {"resolution": 16, "width": 4, "blocks": 2, "discriminator_width": 2, "perceptual": "none"}


def small(**options):
    torch.manual_seed(0)
    return create("srgan", **{**SMALL, **options})


class TestArchitecture:
    def test_paper(self):
        with torch.device("meta"):
            system = create("srgan")
        counts = [sum(p.numel() for p in network.parameters()) for network in (system.generator, system.discriminator)]
        assert counts == [1_547_350, 23_563_649]
        convolutions = [m for m in system.discriminator.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.out_channels, m.stride[0]) for m in convolutions] == [
            *((64, 1), (64, 2), (128, 1), (128, 2)),
            *((256, 1), (256, 2), (512, 1), (512, 2)),
        ]
        assert [
            (m.in_features, m.out_features) for m in system.discriminator.modules() if isinstance(m, nn.Linear)
        ] == [
            (512 * 6 * 6, 1024),
            (1024, 1),
        ]

    @pytest.mark.parametrize("resolution", [16, 20, 36])
    def test_other_windows(self, resolution):
        system = small(resolution=resolution)
        state = system.prepare(Batch(image=images(system, 0)))
        assert state.made.shape == state.high.shape
        assert system.discriminator(state.high).shape == (4, 1)

    @pytest.mark.parametrize("blocks", [1, 3])
    def test_what_a_pixel_sees(self, blocks):
        system = small(blocks=blocks).eval()
        picture = torch.rand(1, 3, 41, 41, requires_grad=True)
        for offset in range(4):  # of the four results of a pixel
            system.generator(picture)[0, :, 80 + offset, 80 + offset].sum().backward()
        rows, columns = picture.grad[0].abs().sum(0).nonzero().unbind(1)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20 - system.halo, 20 + system.halo) * 2


def generator(x, p, blocks=2):
    x = F.prelu(conv(x, p, "first.0"), p["first.1.weight"])
    y = x
    for block in range(blocks):
        inner = batch_norm(conv(y, p, f"trunk.{block}.conv1"), p, f"trunk.{block}.norm1")
        inner = conv(F.prelu(inner, p[f"trunk.{block}.act.weight"]), p, f"trunk.{block}.conv2")
        y = y + batch_norm(inner, p, f"trunk.{block}.norm2")
    y = x + batch_norm(conv(y, p, f"trunk.{blocks}"), p, f"trunk.{blocks + 1}")
    for layer in (0, 3):
        y = F.prelu(F.pixel_shuffle(conv(y, p, f"last.{layer}"), 2), p[f"last.{layer + 2}.weight"])
    return conv(y, p, "last.6")


def discriminator(x, p):
    x = F.leaky_relu(conv(x, p, "0"), 0.2)
    for layer in range(1, 8):
        x = conv(x, p, f"{3 * layer - 1}", 1 + layer % 2)
        x = F.leaky_relu(batch_norm(x, p, f"{3 * layer}"), 0.2)
    return linear(F.leaky_relu(linear(x.flatten(1), p, "24"), 0.2), p, "26")


def low(high):
    small = F.interpolate(high, scale_factor=0.25, mode="bicubic", antialias=True)
    return (small.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1


def reference(pretrain, drop_after=0, pixel=1.0, weight=1e-3, content=0.0, chosen=(0, 1, 2, 3), rate=1e-4):
    """`pretrain` steps by the squared error; then updates of the discriminator, and of the generator against it, with
    that learning rate."""

    def plain(g, d=None):
        alone = torch.optim.Adam(leaves(g), lr=1e-4, betas=(0.9, 0.999))
        if d is not None:
            of_g, of_d = (torch.optim.Adam(leaves(weights), lr=1e-4, betas=(0.9, 0.999)) for weights in (g, d))
        done = 0
        network = features("small").double()

        def step(high):
            nonlocal done
            done += 1
            made = generator(low(high), g)
            error = (made - high).square().mean()
            if done <= pretrain:
                alone.zero_grad()
                error.backward()
                return alone.step()
            for optimizer in (of_g, of_d):
                optimizer.param_groups[0]["lr"] = rate / 10 if drop_after and done > pretrain + drop_after else rate
            real, fake = discriminator(high, d), discriminator(made.detach(), d)
            of_d.zero_grad()
            (-F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean()).backward()
            of_d.step()
            of_g.zero_grad()
            loss = pixel * error - weight * F.logsigmoid(discriminator(made, d)).mean()
            if content:
                a, b = network(made), network(high)
                loss = loss + content * sum((a[i] - b[i]).square().mean() for i in chosen) / len(chosen)
            loss.backward()
            return of_g.step()

        return step

    return plain


class TestSteps:
    def test_alone(self):
        system = small()
        before = [parameter.detach().double() for parameter in system.discriminator.parameters()]
        same_after_three_steps(system, reference(10**6), names=("generator",))
        assert all(map(torch.equal, before, system.discriminator.parameters()))

    def test_against_the_discriminator(self):
        same_after_three_steps(small(pretrain=0), reference(0))

    def test_one_then_the_other_and_slower_in_the_end(self):
        system = small(pretrain=1, drop_after=1, pixel=0.5, adversarial=0.1)
        same_after_three_steps(system, reference(1, 1, 0.5, 0.1))
        system = small(pretrain=1, drop_after=1, adversarial_learning_rate=2e-3)
        same_after_three_steps(system, reference(1, 1, rate=2e-3))

    def test_perceptual(self):
        system = small(pretrain=0, perceptual="small", content=0.5, pixel=0.25)
        same_after_three_steps(system, reference(0, pixel=0.25, content=0.5))
        assert not any("features" in name or "perceptual" in name for name in system.state_dict())
        system = small(pretrain=0, perceptual="small", perceptual_layers="stage2, stage4", content=2.0)
        same_after_three_steps(system, reference(0, content=2.0, chosen=(1, 3)))

    def test_what_was_trained_needs_no_features(self):
        system = small(perceptual="/no/longer/here")
        assert system.translate(torch.rand(1, 3, 4, 4) * 2 - 1).shape == (1, 3, 16, 16)
        with pytest.raises(ValueError, match="features must be"):
            system.phases()

    def test_fused_equals_unfused(self):
        systems = [small(pretrain=1).double() for _ in range(2)]
        unfuse(systems[1])
        steps = [Step(system, precision="float32", channels_last=False) for system in systems]
        for seed in range(2):
            first, second = (step(Batch(image=images(systems[0], seed))) for step in steps)
            assert first.keys() == second.keys()
            for name in first:
                assert first[name].item() == pytest.approx(second[name].item(), abs=1e-9), name

    def test_what_is_logged(self):
        step = Step(small(pretrain=1), precision="float32")
        batch = Batch(image=images(small(), 0).float())
        assert set(step(batch)) == {"pretraining/loss"}
        assert {"discriminator/real", "discriminator/fake", "generator/fake", "generator/pixel"} < set(step(batch))


class TestPictures:
    def test_small_ones_are_those_of_files(self):
        high = images(small(), 1)
        small_ones = shrunk(high)
        assert small_ones.shape == (4, 3, 4, 4)
        levels = (small_ones + 1) * 127.5
        assert (levels - levels.round()).abs().max() < 1e-4
        assert small_ones.abs().max() <= 1
        flat = torch.full((1, 3, 16, 16), 10 / 127.5 - 1)
        assert (shrunk(flat) - flat[..., :4, :4]).abs().max() < 1e-6

    def test_translate_any_size(self):
        system = small()
        made = system.translate(torch.rand(1, 3, 5, 7) * 2 - 1)
        assert made.shape == (1, 3, 20, 28)
        assert made.abs().max() <= 1

    def test_examples_and_baseline(self):
        system = small()
        high = images(system, 2).float()
        (example,) = system.examples(Batch(image=high), torch.Generator())
        assert torch.equal(example.truth, high)
        assert torch.equal(example.images, shrunk(high))
        name, larger = system.baseline(example)
        assert (name, larger.shape) == ("bicubic", high.shape)
        smooth = torch.linspace(-0.9, 0.9, 32).expand(1, 3, 32, 32)
        (example,) = system.examples(Batch(image=smooth), torch.Generator())
        assert (system.baseline(example)[1] - smooth)[..., 8:-8].abs().max() < 0.015  # no shift

    @pytest.mark.parametrize("images", [torch.rand(3, 8, 8), torch.rand(0, 3, 8, 8)])
    def test_what_cannot_be_translated(self, images):
        with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\) with at least one image, not"):
            small().translate(images)

    def test_takes_pictures_alone(self):
        with pytest.raises(ValueError, match="srgan takes no mask: it takes pictures alone"):
            small().translate(torch.rand(1, 3, 8, 8), mask=torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 30, "resolution must be a multiple of 4"),
        ("blocks", 0, "blocks must be at least 1, not 0"),
        ("pretrain", -1, "pretrain must be at least 0, not -1"),
        ("perceptual", "vgg", "features must be .* not 'vgg'"),
        ("perceptual_layers", "stage1,relu5_4", "layers must be of stage1, stage2, stage3, stage4, not relu5_4"),
        ("adversarial", -0.1, "adversarial must be at least 0, not -0.1"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        small(**({"perceptual": "small"} | {option: value})).phases()


class TestResume:
    """A run that goes on is in the stage where it was."""

    @pytest.mark.slow
    @pytest.mark.parametrize("end", [1, 2, 3])
    def test_over_the_boundary_of_the_stages(self, tmp_path, end):
        def train(out, steps):
            torch.manual_seed(0)
            system = small(pretrain=2, drop_after=1)
            return Trainer(system, noise(system, 12), out=out, steps=steps, device="cpu", **QUIET)

        train(tmp_path / "whole", 4).fit()
        train(tmp_path / "parts", end).fit()
        Trainer.resume(tmp_path / "parts", data=noise(small(), 12)).fit(4)
        assert same(*(state(tmp_path / name)["system"] for name in ("whole", "parts")))
        assert same(*(state(tmp_path / name)["optimizers"] for name in ("whole", "parts")))
