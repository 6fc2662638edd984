"""The context encoder against the layers, the losses and the settings of its authors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan import unfuse
from fastgan.data import Batch
from fastgan.systems import create
from fastgan.systems.context_encoder import around
from fastgan.training import Step
from tests.systems.plain_loop import batch_norm, images, leaves, same_after_three_steps

SMALL = {"resolution": 32, "width": 4, "bottleneck": 8, "discriminator_width": 2, "overlap": 2}
MEAN = torch.tensor([117.0, 104.0, 123.0], dtype=torch.float64).view(3, 1, 1) / 255 * 2 - 1


def small(**options):
    torch.manual_seed(0)
    return create("context-encoder", **{**SMALL, **options})


def widths(network):
    return [
        (m.out_channels, m.stride[0], m.padding[0])
        for m in network.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]


class TestArchitecture:
    def test_paper(self):
        with torch.device("meta"):
            system = create("context-encoder")
        assert sum(p.numel() for p in system.generator.parameters()) == 71_124_544
        assert sum(p.numel() for p in system.discriminator.parameters()) == 2_765_568
        assert widths(system.generator) == [
            *((64, 2, 1), (64, 2, 1), (128, 2, 1), (256, 2, 1), (512, 2, 1), (4000, 1, 0)),
            *((512, 1, 0), (256, 2, 1), (128, 2, 1), (64, 2, 1), (3, 2, 1)),
        ]
        assert widths(system.discriminator) == [(64, 2, 1), (128, 2, 1), (256, 2, 1), (512, 2, 1), (1, 1, 0)]

    @pytest.mark.parametrize("holes", ["center", "random"])
    @pytest.mark.parametrize("resolution", [32, 64, 128])
    def test_every_size(self, holes, resolution):
        system = small(resolution=resolution, holes=holes, width=2, channels=1)
        side = resolution // 2 if holes == "center" else resolution
        state = system.prepare(Batch(image=images(system, 0)))
        assert state.made.shape == state.real.shape == state.shown.shape == (4, 1, side, side)
        assert system.discriminator(state.real).shape == (4, 1, 1, 1)


class TestHoles:
    def test_center(self):
        hole = small().holes(torch.zeros(2, 3, 32, 32))
        rows, columns = hole[1, 0].nonzero().unbind(1)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 21) * 2
        assert hole[1].sum() == 12 * 12
        paper = create("context-encoder", width=2, bottleneck=2)
        assert paper.holes(torch.zeros(1, 3, 128, 128)).sum() == 56 * 56  # 64, of which 4 on each side are known

    @pytest.mark.parametrize("blocks", [1, 4, 9])
    def test_random(self, blocks):
        system = small(holes="random", blocks=blocks)
        holes = system.holes(torch.zeros(500, 3, 32, 48), torch.Generator().manual_seed(0))
        covered = holes.float().mean((1, 2, 3))
        assert holes.shape == (500, 1, 32, 48)
        assert covered.min() > 0
        assert covered.max() <= 1 / 4
        reached = holes.any(0)[0]
        assert reached[0].any()
        assert reached[-1].any()
        assert reached[:, 0].any()
        assert reached[:, -1].any()
        assert torch.equal(holes, system.holes(torch.zeros(500, 3, 32, 48), torch.Generator().manual_seed(0)))

    def test_around(self):
        hole = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
        hole[0, 0, 4, 4] = True
        assert around(hole, 2).sum() == 25
        assert torch.equal(around(hole, 0), hole)


def generator(x, p, depth=4):
    """`depth`: convolutions, the last of them to the bottleneck."""
    for layer in range(depth):
        last = layer == depth - 1
        x = F.conv2d(x, p[f"{layer}.conv.weight"], None, 1 if last else 2, 0 if last else 1)
        x = F.leaky_relu(batch_norm(x, p, f"{layer}.norm") if layer else x, 0.2)
    ups = sum(name.endswith("conv.weight") for name in p) - depth
    for layer in range(depth, depth + ups):
        first = layer == depth
        x = F.conv_transpose2d(x, p[f"{layer}.conv.weight"], None, 1 if first else 2, 0 if first else 1)
        x = batch_norm(x, p, f"{layer}.norm").relu() if layer < depth + ups - 1 else x.tanh()
    return x


def discriminator(x, p):
    *layers, last = sorted({int(name.split(".")[0]) for name in p})
    for layer in layers:
        x = F.conv2d(x, p[f"{layer}.conv.weight"], None, 2, 1)
        x = F.leaky_relu(batch_norm(x, p, f"{layer}.norm") if layer else x, 0.2)
    return F.conv2d(x, p[f"{last}.weight"]).flatten()


def reference(seen, weight=1e-3):
    """`seen(pictures, generator)`: what both losses look at. The discriminator's update, then the generator's."""

    def plain(g, d):
        of_g = torch.optim.Adam(leaves(g), lr=2e-3, betas=(0.5, 0.999))
        of_d = torch.optim.Adam(leaves(d), lr=2e-4, betas=(0.5, 0.999))

        def step(pictures):
            real, made, shown, weights = seen(pictures, g)
            of_d.zero_grad()
            told = -F.logsigmoid(discriminator(real, d)).mean() - F.logsigmoid(-discriminator(shown.detach(), d)).mean()
            told.backward()
            of_d.step()
            of_g.zero_grad()
            error = (weights * (made - real) ** 2)[weights.expand_as(made) > 0].mean()
            fooled = -F.logsigmoid(discriminator(shown, d)).mean()
            (weight * fooled + (1 - weight) * error).backward()
            of_g.step()

        return step

    return plain


def center(pictures, g):
    """Of 32x32, 16x16 are made and 12x12 missing."""
    holed = pictures.clone()
    holed[:, :, 10:22, 10:22] = MEAN
    made = generator(holed, g)
    weights = torch.full((1, 1, 16, 16), 10.0, dtype=torch.float64)
    weights[..., 2:14, 2:14] = 1
    return pictures[..., 8:24, 8:24], made, made, weights


def anywhere(pictures, g):
    """Four squares of 4 to 8 pixels a side of 32x32, two pixels around them."""
    drawn = torch.rand(len(pictures), 12, dtype=torch.float64)
    weights = torch.zeros(len(pictures), 1, 32, 32, dtype=torch.float64)
    holed = pictures.clone()
    squares = []
    for row, numbers in enumerate(drawn.tolist()):
        for size, top, left in zip(numbers[:4], numbers[4:8], numbers[8:]):
            side = int(4 + 4 * size)
            squares.append((row, int(top * (33 - side)), int(left * (33 - side)), side))
    for row, top, left, side in squares:
        weights[row, :, max(0, top - 2) : top + side + 2, max(0, left - 2) : left + side + 2] = 10
    for row, top, left, side in squares:
        weights[row, :, top : top + side, left : left + side] = 1
        holed[row, :, top : top + side, left : left + side] = MEAN
    made = generator(holed, g)
    return pictures, made, torch.where(weights == 1, made, pictures), weights


class TestSteps:
    def test_center(self):
        same_after_three_steps(small(), reference(center))

    def test_random(self):
        same_after_three_steps(small(holes="random", adversarial=0.1), reference(anywhere, 0.1))

    def test_fused_equals_unfused(self):
        systems = [small().double() for _ in range(2)]
        unfuse(systems[1])
        steps = [Step(system, precision="float32", channels_last=False) for system in systems]
        for seed in range(2):
            first, second = (step(Batch(image=images(systems[0], seed))) for step in steps)
            for name in first:
                assert first[name].item() == pytest.approx(second[name].item(), abs=1e-9), name


class TestPictures:
    def test_known_pixels_stay(self):
        system = small()
        pictures = images(system, 1).float()
        made, hole = system.translate(pictures), system.holes(pictures).expand_as(pictures)
        assert torch.equal(made[~hole], pictures[~hole])
        assert not torch.equal(made[hole], pictures[hole])
        changed = torch.where(hole, 0.5, pictures)
        assert torch.equal(system.translate(changed), made)  # what lies in the hole is not looked at
        assert torch.equal(system.translate(pictures, mask=hole[:, :1].float()), made)
        with torch.no_grad():
            whole = system.eval().generator(torch.where(hole, system.color, pictures))
        assert torch.equal(made[..., 10:22, 10:22], whole[..., 2:14, 2:14])

    def test_holes_anywhere_in_larger_pictures(self):
        system = small(holes="random")
        pictures = torch.rand(2, 3, 40, 48) * 2 - 1
        mask = torch.zeros(2, 1, 40, 48)
        mask[0, :, 3:9, 5:30] = 1
        made = system.translate(pictures, mask=mask)
        assert torch.equal(made[1], pictures[1])
        assert torch.equal(made[:, :, :3], pictures[:, :, :3])
        assert not torch.equal(made[0, :, 3:9, 5:30], pictures[0, :, 3:9, 5:30])

    @pytest.mark.parametrize("holes", ["center", "random"])
    def test_examples_and_baseline(self, holes):
        system = small(holes=holes)
        pictures = images(system, 2).float()
        (example,) = system.examples(Batch(image=pictures), torch.Generator().manual_seed(1))
        hole = example.region.expand_as(pictures)
        assert torch.equal(example.truth, pictures)
        assert torch.equal(example.images[~hole], pictures[~hole])
        assert example.images[hole].unique().numel() == 3
        assert set(example.inputs) == ({"mask"} if holes == "random" else set())
        assert system.translate(example.images, **example.inputs).shape == pictures.shape

    def test_border_mean(self):
        system = small()
        pictures = torch.zeros(1, 3, 32, 32)
        pictures[..., 9, 9:23] = 1  # 14 of the 52 pixels around the hole
        (example,) = system.examples(Batch(image=pictures), torch.Generator())
        name, filled = system.baseline(example)
        assert name == "border mean"
        assert filled[0, :, 15, 15].tolist() == pytest.approx([14 / 52] * 3)
        assert torch.equal(filled[~example.region.expand_as(filled)], pictures[~example.region.expand_as(filled)])

    @pytest.mark.parametrize(
        ("options", "mask", "message"),
        [
            ({}, torch.ones(1, 1, 32, 32), "trained with a hole of 12x12 pixels in the middle: leave the mask out"),
            ({}, torch.ones(1, 1, 16, 32), r"mask must be \(N, 1, 32, 32\), as the images are, not \(1, 1, 16, 32\)"),
            ({"holes": "random"}, torch.ones(1, 3, 32, 32), r"mask must be \(N, 1, 32, 32\).* not \(1, 3, 32, 32\)"),
            ({"holes": "random"}, None, "context-encoder was trained with holes anywhere: it needs a mask"),
        ],
    )
    def test_masks_that_cannot_be_used(self, options, mask, message):
        with pytest.raises(ValueError, match=message):
            small(**options).translate(torch.rand(1, 3, 32, 32), **({} if mask is None else {"mask": mask}))

    @pytest.mark.parametrize(
        ("options", "size", "message"),
        [
            ({}, (40, 40), "takes pictures of 32x32 pixels, not 40x40"),
            ({"holes": "random"}, (36, 40), "multiples of 8, at least 32 pixels, not 40x36"),
            ({"holes": "random"}, (24, 32), "multiples of 8, at least 32 pixels, not 32x24"),
        ],
    )
    def test_sizes_that_cannot_be_used(self, options, size, message):
        with pytest.raises(ValueError, match=message):
            small(**options).translate(
                torch.rand(1, 3, *size), **({"mask": torch.rand(1, 1, *size)} if options else {})
            )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 48, "one of 32, 64, 128, 256, not 48"),
        ("holes", "edge", "holes must be one of center, random, not 'edge'"),
        ("overlap", 8, "overlap must leave a hole: below 8 at resolution 32, not 8"),
        ("adversarial", 1.5, "adversarial must be at least 0 and at most 1, not 1.5"),
    ],
)
def test_says_what_is_wrong(option, value, message):
    with pytest.raises(ValueError, match=message):
        small(**{option: value})
