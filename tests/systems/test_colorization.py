"""Colorization against sections 3.2 and 3.3 of its paper, and a plain loop."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan import Trainer, fuse, unfuse
from fastgan.color import lab_to_rgb, rgb_to_lab
from fastgan.data import Batch, Images, hints_of
from fastgan.networks import Colorizer
from fastgan.systems import create
from fastgan.systems.hints import MOST, drawn_hints, drawn_places, hints_at
from fastgan.training import Step
from tests.systems.every import noise
from tests.systems.plain_loop import batch_norm, conv, images, leaves, same_after_three_steps
from tests.training.states import same, state

QUIET = {"sample_every": 0, "evaluate_every": 0, "health": False, "precision": "float32", "batch_size": 4}
SMALL = {"resolution": 16, "width": 2}
GRAY = torch.zeros(1, 3, 16, 16)


def small(**options):
    torch.manual_seed(0)
    return create("colorization", **{**SMALL, **options})


def photograph(height=16, width=16, count=1):
    """Smooth, with colors that sRGB has."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([0.6 * x, 0.5 * y, -0.4 * x * y + 0.1]).expand(count, -1, -1, -1)


class TestArchitecture:
    def test_the_papers(self):
        with torch.device("meta"):
            network = Colorizer()
            found = [
                (type(m).__name__, m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.dilation[0])
                for m in network.modules()
                if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
            ]
            picture = torch.empty(2, 4, 176, 176)
            assert network(picture).shape == (2, 2, 176, 176)
            assert network.logits(picture).shape == (2, 529, 44, 44)
        widths = [4, 64, 64, 128, 128, *[256] * 3, *[512] * 12]
        plain = [
            ("Conv2d", before, after, 3, 1, 2 if 10 <= number < 16 else 1)
            for number, (before, after) in enumerate(pairwise(widths))
        ]
        later = [
            *(("ConvTranspose2d", 512, 256, 4, 2, 1), ("Conv2d", 256, 256, 3, 1, 1)),
            *(("ConvTranspose2d", 256, 128, 4, 2, 1), ("Conv2d", 128, 128, 3, 1, 1)),
            *(("ConvTranspose2d", 128, 128, 4, 2, 1), ("Conv2d", 64, 128, 3, 1, 1)),
            *[("Conv2d", 256, 256, 3, 1, 1)] * 2,
            *[("Conv2d", 128, 128, 3, 1, 1)] * 2,
            *(("Conv2d", 128, 2, 1, 1, 1), ("Conv2d", 256, 529, 1, 1, 1)),
        ]
        assert found == plain + later
        norms = [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms == [64, 128, 256, 512, 512, 512, 512, 256, 128]
        expected = sum(i * o * k * k + o for _, i, o, k, *_ in found) + 2 * sum(norms)
        assert sum(p.numel() for p in network.parameters()) == expected == 34_187_027

    def test_a_norm_comes_after_the_activation(self):
        kinds = [type(layer).__name__ for layer in Colorizer(width=2).conv3]
        assert kinds == ["Conv2d", "ReLU"] * 3 + ["BatchNorm2d"]

    @pytest.mark.slow
    def test_how_far_a_pixel_sees(self):
        network = Colorizer(width=1).eval()
        for module in network.modules():  # so that no ReLU hides a pixel
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        extent = set()
        for at in range(192, 200):
            picture = torch.ones(1, 4, 400, 400, requires_grad=True, dtype=torch.float64)
            network.double()(picture)[0, 0, at, at].backward()
            seen = picture.grad[0].abs().sum(0).amax(0).nonzero()
            extent |= {at - seen.min().item(), seen.max().item() - at}
        assert network.halo - 8 < max(extent) <= network.halo

    def test_fused_equals_unfused(self):
        systems = [small(pretraining=1).double() for _ in range(2)]
        unfuse(systems[1])
        steps = [Step(system, precision="float32", channels_last=False) for system in systems]
        for seed in range(3):
            values = []
            for step in steps:
                torch.manual_seed(seed)
                values.append(step(Batch(image=images(systems[0], seed))))
            assert values[0].keys() == values[1].keys()
            for name in values[0]:
                assert values[0][name].item() == pytest.approx(values[1][name].item(), abs=1e-9), name

    def test_every_place_is_fused(self):
        torch.manual_seed(0)
        plain = Colorizer(width=2).eval()
        picture = torch.randn(2, 4, 16, 24)
        with torch.no_grad():
            before = plain(picture)
            assert torch.allclose(fuse(plain)(picture), before, atol=1e-5)


def group(x, p, name, count, dilation=1):
    for layer in range(count):
        place = name.format(2 * layer)
        x = F.relu(F.conv2d(x, p[f"{place}.weight"], p[f"{place}.bias"], 1, dilation, dilation))
    return batch_norm(x, p, name.format(2 * count))


def up(x, p, name):
    return F.conv_transpose2d(x, p[f"{name}.weight"], p[f"{name}.bias"], 2, 1)


def network(x, p):
    """Logits of the classes and the map they come from, and colors in [-1, 1]."""
    one = group(x, p, "conv1.{}", 2)
    two = group(one[:, :, ::2, ::2], p, "conv2.{}", 2)
    three = group(two[:, :, ::2, ::2], p, "conv3.{}", 3)
    y, at = three[:, :, ::2, ::2], 0
    for dilation in (1, 2, 2, 1):
        shifted = {f"m.{number - at}.{rest}": value for (number, rest), value in middle(p).items()}
        y, at = group(y, shifted, "m.{}", 3, dilation), at + 7
    eight = group(F.relu(up(y, p, "up8") + conv(three, p, "skip8")), p, "conv8.{}", 2)
    nine = group(F.relu(up(eight, p, "up9") + conv(two, p, "skip9")), p, "conv9.{}", 1)
    ten = F.leaky_relu(conv(F.relu(up(nine, p, "up10") + conv(one, p, "skip10")), p, "conv10.0"), 0.2)
    return conv(eight, p, "classes"), eight, torch.tanh(conv(ten, p, "colors.0"))


def middle(p):
    names = [(name, name.split(".", 2)) for name in p if name.startswith("middle.")]
    return {(int(number), rest): p[name] for name, (_, number, rest) in names}


def seen(lightness, hints=None):
    if hints is None:
        return torch.cat([lightness / 100 - 0.5, lightness * 0, lightness * 0, lightness * 0 - 0.5], 1)
    return torch.cat([lightness / 100 - 0.5, hints[:, :2] / 110, hints[:, 2:] - 0.5], 1)


def classes(ab):
    """Of every fourth pixel, by the distance to the center of each bin."""
    side = torch.arange(-110, 111, 10)
    centers = torch.stack([side.repeat_interleave(23), side.repeat(23)], 1)
    points = ab[:, :, ::4, ::4].permute(0, 2, 3, 1)
    return (points[..., None, :] - centers).square().sum(-1).argmin(-1)


def huber(difference, delta):
    size = difference.abs()
    return torch.where(size < delta, size.square() / (2 * delta), size - delta / 2)


def reference(system, pretraining, drop_after=0):
    def plain(p, d=None):
        alone = torch.optim.Adam(leaves(p), lr=1e-4, betas=(0.9, 0.999))
        hinted = torch.optim.Adam(leaves(p), lr=1e-5, betas=(0.9, 0.999))
        judge = None if d is None else torch.optim.Adam(leaves(d), lr=1e-5, betas=(0.9, 0.999))
        done = 0

        def step(pictures):
            nonlocal done
            done += 1
            lab = rgb_to_lab(pictures)
            lightness, ab = lab[:, :1], lab[:, 1:]
            for value in leaves(p):
                value.grad = None
            if done <= pretraining:
                F.cross_entropy(network(seen(lightness), p)[0], classes(ab)).backward()
                return alone.step()
            if judge is not None:
                made = network(seen(lightness, drawn_hints(ab, system)), p)[2].detach()
                judge.zero_grad()
                real, fake = (patches(torch.cat([lightness / 100 - 0.5, c], 1), d) for c in (ab / 110, made))
                (-F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean()).backward()
                judge.step()
            hints = drawn_hints(ab, system)
            _, shared, made = network(seen(lightness, hints), p)
            loss = huber(made - ab / 110, 1 / 110).sum(1).mean()
            loss = loss + F.cross_entropy(conv(shared.detach(), p, "classes"), classes(ab))
            if judge is not None:
                loss = loss - 0.1 * F.logsigmoid(patches(torch.cat([lightness / 100 - 0.5, made], 1), d)).mean()
            loss.backward()
            hinted.param_groups[0]["lr"] = 1e-6 if drop_after and done > pretraining + drop_after else 1e-5
            return hinted.step()

        return step

    return plain


def patches(x, p):
    x = F.leaky_relu(F.conv2d(x, p["0.weight"], p["0.bias"], 2, 1), 0.2)
    for number, stride in ((2, 2), (5, 1)):
        x = F.leaky_relu(batch_norm(F.conv2d(x, p[f"{number}.weight"], None, stride, 1), p, f"{number + 1}"), 0.2)
    return F.conv2d(x, p["8.weight"], p["8.bias"], 1, 1)


class TestSteps:
    def test_classes_alone(self):
        system = small()
        same_after_three_steps(system, reference(system, 3), names=("generator",))

    def test_with_hints(self):
        system = small(pretraining=0)
        same_after_three_steps(system, reference(system, 0), names=("generator",))

    def test_one_then_the_other_and_slower_in_the_end(self):
        system = small(pretraining=1, drop_after=1)
        same_after_three_steps(system, reference(system, 1, 1), names=("generator",))

    def test_against_a_discriminator(self):
        system = small(pretraining=1, adversarial=0.1)
        same_after_three_steps(system, reference(system, 1))

    def test_there_is_no_discriminator_without_a_weight_of_it(self):
        assert small().discriminator is None
        assert [phase.name for phase in small().phases()] == ["pretraining", "generator"]

    @pytest.mark.parametrize("stage", ["class_loss", "color_loss"])
    def test_pictures_without_colors_do_not_count(self, stage):
        """Neither what they are nor how many there are."""
        system = small().double().eval()
        colored = photograph(count=2).double()
        grays = colored.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        nearly = grays + torch.tensor([0.001, 0.0, 0.0]).view(3, 1, 1)
        torch.manual_seed(1)
        alone = getattr(system, stage)(system.prepare(Batch(image=colored)))[0]
        states = system.prepare(Batch(image=torch.cat([colored, grays, nearly])))
        assert states.counts.tolist() == [1, 1, 0, 0, 0, 0]
        if stage == "class_loss":  # which draws nothing
            assert getattr(system, stage)(states)[0].item() == pytest.approx(alone.item(), abs=1e-12)
        nothing = getattr(system, stage)(system.prepare(Batch(image=grays)))[0]
        assert nothing.item() == 0

    @pytest.mark.parametrize(("span", "counts"), [(4.8, 0), (5.2, 1)])
    def test_what_is_colorful(self, span, counts):
        lab = torch.full((1, 3, 16, 16), 50.0)
        lab[:, 1:] = 0
        lab[:, 1, 3, 4], lab[:, 2, 9, 1] = span / 2, -span / 2
        assert small().prepare(Batch(image=lab_to_rgb(lab))).counts.tolist() == [counts]


class TestHints:
    def test_statistics(self):
        torch.manual_seed(0)
        hints = drawn_hints(torch.randn(3000, 2, 40, 24), small())
        some = hints[:, 2].flatten(1)
        everything = some.mean(1) == 1
        assert 0.004 < everything.float().mean() < 0.018
        assert (some.sum(1) == 0).float().mean().item() == pytest.approx(0.99 / 8, abs=0.025)
        middle = hints[~everything, 2]
        row = (middle.sum((0, 2)) * torch.arange(40.0)).sum() / middle.sum()
        assert row.item() == pytest.approx(19.5, abs=0.3)

    def test_number(self):
        """Geometric: mean 7, P(0) = 1/8, and each further one 7/8 as likely."""
        torch.manual_seed(0)
        ab = torch.zeros(20_000, 2, 16, 16)
        found = []

        def instead(ab, counts, sizes, places):
            found.append(counts)
            return torch.zeros(len(ab), 3, 16, 16)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fastgan.systems.hints.hints_at", instead)
            drawn_hints(ab, small())
        (counts,) = found
        assert counts.mean().item() == pytest.approx(7, abs=0.2)
        for number in (0, 1, 5):
            share = (counts == number).float().mean().item()
            assert share == pytest.approx((7 / 8) ** number / 8, abs=0.008)
        assert counts.max() <= MOST

    def test_sizes_and_places(self):
        torch.manual_seed(0)
        sizes, places = drawn_places(500, 20, small())
        assert sizes.unique().tolist() == list(range(1, 10))
        assert (sizes == 9).float().mean().item() == pytest.approx(1 / 9, abs=0.02)
        ab = torch.zeros(10_000, 2, 64, 32)
        one = hints_at(ab, torch.ones(10_000), torch.ones(10_000, 1), places.view(-1, 1, 2))[:, 2]
        at = one.nonzero()[:, 1:].double()
        assert len(at) == 10_000
        assert at.mean(0).tolist() == pytest.approx([31.5, 15.5], abs=0.6)
        # A normal distribution of deviation 1/4 of the side, whose ends (2.3 % each) lie at the border.
        assert (at[:, 0] <= 15.5).double().mean().item() == pytest.approx(0.1587, abs=0.012)
        assert (at[:, 0] == 0).double().mean().item() == pytest.approx(0.0228, abs=0.007)

    def test_a_hint_is_the_average_of_what_it_hides(self):
        ab = torch.randn(2, 2, 16, 24, dtype=torch.float64)
        sizes = torch.tensor([[3.0, 2.0], [9.0, 1.0]])
        places = torch.tensor([[[-1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
        hints = hints_at(ab, torch.tensor([2.0, 2.0]), sizes, places)
        assert hints[0, 2].sum() == 9 + 4
        assert torch.allclose(hints[0, :2, 3:6, 16:19], ab[0, :, 3:6, 16:19].mean((1, 2), keepdim=True).expand(2, 3, 3))
        assert torch.allclose(hints[0, :2, 7:9, 11:13], ab[0, :, 7:9, 11:13].mean((1, 2), keepdim=True).expand(2, 2, 2))
        assert hints[0, :2][:, hints[0, 2] == 0].abs().max() == 0
        last = hints[1, :2].reshape(2, -1)[:, hints[1, 2].flatten() > 0].unique(dim=1)
        assert last.shape == (2, 2)  # the small one lies upon the large one
        assert hints[1, 2].sum() == 81

    def test_as_many_as_asked_for(self):
        ab = torch.zeros(3, 2, 64, 64)
        places = torch.linspace(-1.8, 1.8, 4).view(1, 4, 1).expand(3, -1, 2)
        hints = hints_at(ab, torch.tensor([0.0, 1.0, 4.0]), torch.ones(3, 4), places)
        assert hints[:, 2].sum((1, 2)).tolist() == [0, 1, 4]

    def test_larger_than_the_picture(self):
        ab = torch.randn(1, 2, 8, 8)
        hints = hints_at(ab, torch.ones(1), torch.full((1, 1), 9.0), torch.zeros(1, 1, 2))
        assert torch.allclose(hints[0, :2], ab[0].mean((1, 2), keepdim=True).expand(2, 8, 8))


class TestPictures:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_keeps_the_lightness(self, channels):
        system = small()
        pictures = photograph(16, 24, 2)[:, :channels].contiguous()
        hints = hints_of([(3, 4, "#ff2010", 5)], 16, 24).expand(2, -1, -1, -1)
        for inputs in ({}, {"hints": hints}):
            made = system.translate(pictures, **inputs)
            assert made.shape == (2, 3, 16, 24)
            assert made.abs().max() <= 1
            light = rgb_to_lab(pictures.expand(-1, 3, -1, -1))[:, 0]
            assert (rgb_to_lab(made)[:, 0] - light).abs().max() < 0.5

    def test_colors_of_the_picture_are_not_seen(self):
        system = small()
        picture = photograph()
        lab = rgb_to_lab(picture)
        lab[:, 1:] = 0
        assert torch.allclose(system.translate(picture), system.translate(lab_to_rgb(lab)), atol=1e-4)

    def test_hints_are_seen(self):
        system = small()
        picture = photograph()
        red, blue = (hints_of([(8, 8, color)], 16, 16) for color in ("#ff0000", "#0000ff"))
        none = torch.zeros_like(red)
        plain = system.translate(picture)
        assert torch.equal(system.translate(picture, hints=none), plain)
        assert not torch.equal(system.translate(picture, hints=red), plain)
        assert not torch.equal(system.translate(picture, hints=red), system.translate(picture, hints=blue))

    def test_examples(self):
        system = small(resolution=64)
        pictures = photograph(64, 64, 3)
        found = list(system.examples(Batch(image=pictures), torch.Generator().manual_seed(1)))
        names = ["0 hints", "1 hint", "5 hints", "10 hints", "50 hints", "100 hints"]
        assert [example.name for example in found] == names
        assert found[0].inputs == {}
        for example in found:
            assert torch.equal(example.truth, pictures)
            lab = rgb_to_lab(example.images)
            assert (lab[:, 0] - rgb_to_lab(pictures)[:, 0]).abs().max() < 1e-2
            assert lab[:, 1:].abs().max() < 0.1
            assert system.baseline(example) == ("gray", example.images)
        for fewer, more in pairwise(found[1:]):
            ours, theirs = fewer.inputs["hints"], more.inputs["hints"]
            assert ((ours[:, 3] == 0) | (theirs[:, 3] == 1)).all()
            assert ours[:, 3].sum() < theirs[:, 3].sum()
        single = found[1].inputs["hints"]
        for hints, picture in zip(single, pictures):
            at = hints[3] > 0
            ab = rgb_to_lab(hints[None, :3])[0, 1:, at].mean(1)
            assert torch.allclose(ab, rgb_to_lab(picture[None])[0, 1:, at].mean(1), atol=0.2)
            assert hints[:3, ~at].abs().max() == 0

    def test_shows_none_and_ten(self):
        panels = small().show(Batch(image=photograph(count=2)))
        assert [(panel.name, list(panel.parts)) for panel in panels] == [
            ("0 hints", ["input", "output", "truth"]),
            ("10 hints", ["input", "hints", "output", "truth"]),
        ]

    def test_what_it_trains_on(self):
        assert small().inputs() == {"image": Images(3, 16, 16, fit="cut")}


class TestSuggestions:
    def test_the_likeliest_classes(self):
        system = small()
        with torch.no_grad():
            system.generator.classes.weight.zero_()
            bias = system.generator.classes.bias.zero_()
            bias[(40 + 110) // 10 * 23 + (20 + 110) // 10] = 60.0  # a = 40, b = 20
            bias[(-30 + 110) // 10 * 23 + (10 + 110) // 10] = 50.0
        picture = torch.zeros(2, 1, 16, 24)
        colors, shares = system.suggest(picture, 20, 5, count=3)
        assert colors.shape == (2, 3, 3)
        lab = rgb_to_lab(colors.mT.unsqueeze(3))[0, :, :, 0].T
        light = rgb_to_lab(picture.expand(-1, 3, -1, -1))[0, 0, 0, 0].item()
        assert lab[0].tolist() == pytest.approx([light, 40, 20], abs=0.5)
        assert lab[1].tolist() == pytest.approx([light, -30, 10], abs=0.5)
        weights = [torch.tensor(value * 0.2).exp().item() for value in (60, 50, 0)]
        total = weights[0] + weights[1] + 527
        near = [weights[0] + 8, weights[1] + 8, 4]  # the last one in the corner
        assert shares[0].tolist() == pytest.approx([value / total for value in near], rel=1e-3)

    def test_of_that_point_and_with_hints(self):
        system = small()
        picture = photograph(16, 24)
        hints = hints_of([(20, 5, "#ff0000")], 16, 24)
        first, second = system.suggest(picture, 20, 5)[1], system.suggest(picture, 1, 14)[1]
        assert first.shape == (1, 9)
        assert not torch.equal(first, second)
        assert not torch.equal(first, system.suggest(picture, 20, 5, hints=hints)[1])
        assert (first.diff() <= 0).all()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"x": 24}, "the point must lie in the picture of 24x16 pixels, not at 24, 0"),
            ({"y": -1}, "the point must lie in the picture of 24x16 pixels, not at 0, -1"),
            ({"count": 0}, "count must be from 1 to 16, not 0"),
            ({"hints": torch.zeros(1, 4, 8, 8)}, r"hints must be \(1, 4, 16, 24\), red, .* not \(1, 4, 8, 8\)"),
        ],
    )
    def test_says_what_is_wrong(self, given, message):
        with pytest.raises(ValueError, match=message):
            small().suggest(torch.zeros(1, 1, 16, 24), **{"x": 0, "y": 0, **given})


@pytest.mark.parametrize(
    ("images", "inputs", "message"),
    [
        (torch.zeros(1, 2, 16, 16), {}, "images must have 1 or 3 channels, not 2"),
        (torch.zeros(1, 3, 20, 16), {}, "sides are multiples of 8, at least 8 pixels, not 16x20"),
        (GRAY, {"hints": torch.zeros(1, 3, 16, 16)}, r"hints must be \(1, 4, 16, 16\).*not \(1, 3"),
        (GRAY, {"mask": torch.zeros(1, 1, 16, 16)}, "takes no mask: beside pictures it takes hints"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated(images, inputs, message):
    with pytest.raises(ValueError, match=message):
        small().translate(images, **inputs)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 20, "resolution must be a multiple of 8, not 20"),
        ("width", 0, "width must be at least 1, not 0"),
        ("pretraining", -1, "pretraining must be at least 0, not -1"),
        ("adversarial", -0.1, "adversarial must be at least 0, not -0.1"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        small(**{option: value})


@pytest.mark.slow
@pytest.mark.parametrize("end", [1, 2, 3])
def test_resumes_bit_for_bit_over_the_boundary(tmp_path, end):
    def train(out, steps):
        system = small(pretraining=2, drop_after=1)
        return Trainer(system, noise(system, 12), out=out, steps=steps, device="cpu", **QUIET)

    train(tmp_path / "whole", 4).fit()
    train(tmp_path / "parts", end).fit()
    Trainer.resume(tmp_path / "parts", data=noise(small(), 12)).fit(4)
    assert same(*(state(tmp_path / name)["system"] for name in ("whole", "parts")))
    assert same(*(state(tmp_path / name)["optimizers"] for name in ("whole", "parts")))
