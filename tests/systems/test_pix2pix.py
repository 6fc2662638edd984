"""pix2pix against the layers of its authors' code, and against a loop in plain PyTorch."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan.data import Batch
from fastgan.networks import UNet, patchgan
from fastgan.random import drawing_from
from fastgan.systems import create
from fastgan.training import Step
from tests.systems.every import rows, small
from tests.systems.plain_loop import leaves, weights
from tests.systems.test_dcgan import parameters, shapes

TINY = {"resolution": 32, "channels": 2, "width": 4}


def made(**options):
    torch.manual_seed(0)
    return create("pix2pix", **{**TINY, **options})


@pytest.fixture(scope="module")
def paper():
    return create("pix2pix")


class TestArchitecture:
    def test_generator(self, paper):
        widths = [3, 64, 128, 256, 512, 512, 512, 512, 512]
        down = [((after, before, 4, 4), 2, 1) for before, after in pairwise(widths)]
        up = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 3)]
        assert shapes(paper.generator) == down + [((*pair, 4, 4), 2, 1) for pair in up]
        assert parameters(paper.generator) == 54_413_955  # 54.414 M

    def test_discriminator(self, paper):
        assert shapes(paper.discriminator) == [
            ((64, 6, 4, 4), 2, 1),
            ((128, 64, 4, 4), 2, 1),
            ((256, 128, 4, 4), 2, 1),
            ((512, 256, 4, 4), 1, 1),
            ((1, 512, 4, 4), 1, 1),
        ]
        # Instance norm has no weights, and so the three convolutions before it have biases.
        assert parameters(patchgan(6, norm="batch")) == 2_768_705  # 2.769 M
        assert parameters(paper.discriminator) == 2_768_705 - 896

    def test_single_pixels(self):
        network = made(layers=0, norm="batch").discriminator
        assert shapes(network) == [((4, 4, 1, 1), 1, 0), ((8, 4, 1, 1), 1, 0), ((1, 8, 1, 1), 1, 0)]
        assert network(torch.zeros(2, 4, 32, 32)).shape == (2, 1, 32, 32)

    @pytest.mark.parametrize("norm", ["batch", "instance"])
    def test_norm_and_dropout_are_where_the_paper_has_them(self, norm):
        system = made(resolution=64, norm=norm)
        kind = nn.BatchNorm2d if norm == "batch" else nn.InstanceNorm2d
        normed = [[m for m in part.modules() if isinstance(m, kind)] for part in system.generator.downs]
        assert [len(found) for found in normed] == [0, 1, 1, 1, 1, 0]  # neither the first nor the innermost
        assert all(found[0].affine for found in normed[1:-1])
        forgets = [[m.p for m in up if isinstance(m, nn.Dropout)] for up in system.generator.ups]
        assert forgets == [[], [0.5], [0.5], [0.5], []]

    @pytest.mark.parametrize(("resolution", "levels"), [(16, 4), (32, 5), (64, 6), (128, 7)])
    def test_down_to_one_pixel(self, resolution, levels):
        system = made(resolution=resolution, layers=1)
        assert len(system.generator.downs) == levels
        assert system.multiple == resolution
        assert system.translate(torch.zeros(1, 2, resolution, 2 * resolution)).shape == (
            1,
            2,
            resolution,
            2 * resolution,
        )

    def test_fewer_levels_take_more_sizes(self):
        system = made(levels=2)
        assert system.translate(torch.zeros(1, 2, 20, 24)).shape == (1, 2, 20, 24)
        with pytest.raises(ValueError, match="sides are multiples of 4, at least 4 pixels, not 24x22"):
            system.translate(torch.zeros(1, 2, 22, 24))

    def test_initial_weights(self, paper):
        for name, parameter in paper.named_parameters():
            if parameter.dim() == 4:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
            elif name.endswith("weight"):
                assert parameter.mean().item() == pytest.approx(1, abs=0.02), name
                assert parameter.std().item() == pytest.approx(0.02, rel=0.4), name
            else:
                assert not parameter.any(), name

    def test_instance_norm_is_what_batch_norm_is_for_one_picture(self):
        first, second = (UNet(4, 4, norm=norm, dropout=0.0) for norm in ("batch", "instance"))
        second.load_state_dict(first.state_dict(), strict=False)
        picture = torch.randn(1, 3, 16, 16)
        assert torch.allclose(first.train()(picture), second.eval()(picture), atol=1e-5)


def norm(x, p, name, kind):
    """Of a batch, or of each picture."""
    if kind == "instance":
        return F.instance_norm(x, weight=p.get(f"{name}.weight"), bias=p.get(f"{name}.bias"))
    return F.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)


def unet(x, p, kind):
    """Five levels, for 32 pixels, without dropout: as networks.UnetGenerator of the authors has them."""
    maps = [F.conv2d(x, p["downs.0.weight"], None, 2, 1)]
    for level in range(1, 5):
        y = F.conv2d(F.leaky_relu(maps[-1], 0.2), p[f"downs.{level}.1.weight"], None, 2, 1)
        maps.append(y if level == 4 else norm(y, p, f"downs.{level}.2", kind))
    y, resized = maps[4], "last.2.weight" in p
    for up in range(4):
        y = doubled(F.relu(y), p, f"ups.{up}", resized)
        y = torch.cat([F.leaky_relu(maps[3 - up], 0.2), norm(y, p, f"ups.{up}.{3 if resized else 2}", kind)], 1)
    return doubled(F.relu(y), p, "last", resized).tanh()


def doubled(x, p, name, resized):
    if resized:
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return F.conv2d(x, p[f"{name}.2.weight"], p.get(f"{name}.2.bias"), 1, 1)
    return F.conv_transpose2d(x, p[f"{name}.1.weight"], p.get(f"{name}.1.bias"), 2, 1)


def patches(x, p, kind):
    x = F.leaky_relu(F.conv2d(x, p["0.weight"], p["0.bias"], 2, 1), 0.2)
    for layer, stride in ((2, 2), (5, 2), (8, 1)):
        x = F.conv2d(x, p[f"{layer}.weight"], p.get(f"{layer}.bias"), stride, 1)
        x = F.leaky_relu(norm(x, p, f"{layer + 1}", kind), 0.2)
    return F.conv2d(x, p["11.weight"], p["11.bias"], 1, 1)


LOSSES = {
    "non_saturating": (
        lambda d: F.softplus(-d).mean(),
        lambda d: F.softplus(d).mean(),
        lambda d: F.softplus(-d).mean(),
    ),
    "least_squares": (
        lambda d: 0.5 * (d - 1).square().mean(),
        lambda d: 0.5 * d.square().mean(),
        lambda d: 0.5 * (d - 1).square().mean(),
    ),
    "hinge": (lambda d: F.relu(1 - d).mean(), lambda d: F.relu(1 + d).mean(), lambda d: -d.mean()),
}


def plain_step(g, d, kind="batch", loss="non_saturating", weight=100.0, rates=(1.0, 1.0, 1.0)):
    """Of copies of the weights: the discriminator first, then the generator against the one that has moved."""
    real_loss, fake_loss, fooled = LOSSES[loss]
    optimizers = [torch.optim.Adam(leaves(p), 2e-4, (0.5, 0.999)) for p in (d, g)]

    def step(number, a, b):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 2e-4 * rates[number]
        fake = unet(a, g, kind)
        optimizers[0].zero_grad()
        judged = [patches(torch.cat([a, images], 1), d, kind) for images in (b, fake.detach())]
        (0.5 * (real_loss(judged[0]) + fake_loss(judged[1]))).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        (fooled(patches(torch.cat([a, fake], 1), d, kind)) + weight * (fake - b).abs().mean()).backward()
        optimizers[1].step()

    return step


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({"norm": "batch"}, {}),
        ({"norm": "instance"}, {"kind": "instance"}),
        ({"norm": "batch", "upsampling": "resize"}, {}),
        ({"norm": "batch", "loss": "least_squares"}, {"loss": "least_squares"}),
        ({"norm": "batch", "loss": "hinge", "l1": 3.0}, {"loss": "hinge", "weight": 3.0}),
        ({"norm": "batch", "decay": "linear", "decay_from": 1, "decay_steps": 4}, {"rates": (1.0, 1.0, 0.75)}),
    ],
    ids=["batch", "instance", "resize", "least squares", "hinge", "decay"],
)
def test_three_steps_are_those_of_plain_pytorch(options, plain):
    system = made(**options, dropout=0.0).double()
    networks = system.generator, system.discriminator
    copies = [weights(network) for network in networks]
    before = [{name: value.detach().clone() for name, value in copy.items()} for copy in copies]
    theirs, ours = plain_step(*copies, **plain), Step(system, precision="float32", channels_last=False)
    for number in range(3):
        batch = rows(system, 4, number).map(torch.Tensor.double)
        ours(batch)
        theirs(number, batch.source, batch.target)
    for network, copy, first in zip(networks, copies, before):
        for name, value in network.named_parameters():
            assert (value - copy[name]).abs().max() <= 1e-8, name
        assert sum((value - first[name]).abs().max() > 1e-6 for name, value in network.named_parameters()) > 4


class TestNoise:
    def test_dropout_is_of_training(self):
        system = made(dropout=0.5)
        pictures = torch.rand(2, 2, 32, 32)
        assert torch.equal(system.translate(pictures), system.translate(pictures))
        system.train()
        assert not torch.equal(system(pictures), system(pictures))
        assert torch.equal(*(made(dropout=0.0).train()(pictures) for _ in range(2)))

    def test_and_after_it_where_asked(self):
        system = made(noise=True).train()
        pictures = torch.rand(1, 2, 32, 32).repeat(3, 1, 1, 1)
        before = torch.get_rng_state()
        own = torch.Generator().manual_seed(3)
        with drawing_from(lambda device: own):
            made_of = system.translate(pictures)
        assert not torch.allclose(made_of[0], made_of[1], atol=1e-4)
        assert torch.equal(made_of, system.translate(pictures))  # the same each time
        assert torch.equal(before, torch.get_rng_state())
        assert torch.equal(own.get_state(), torch.Generator().manual_seed(3).get_state())  # nor is a run's moved
        assert all(module.training for module in system.modules())


class TestAugmentation:
    def test_pairs_stay_pairs(self):
        system = made(augment="translation").train()
        images = torch.rand(4, 2, 32, 32)
        pair = system.pair(images, images)
        assert torch.equal(pair[:, :2], pair[:, 2:])
        assert not torch.equal(pair[:, :2], images)

    def test_is_of_all_that_the_discriminator_sees(self):
        system = made(augment="translation").train()
        seen = []
        system.augment.register_forward_hook(lambda module, inputs, output: seen.append(output))
        judged = []
        system.discriminator.register_forward_pre_hook(lambda module, inputs: judged.append(inputs[0]))
        state = system.prepare(rows(system, 4))
        system.discriminator_loss(state)
        system.generator_loss(state)
        assert all(any(x is y for y in seen) for x in judged)
        assert len(judged) == len(seen) == 3

    def test_may_change_at_work(self):
        system = made().train()
        assert system.live == ("augment",)
        system.change(augment="cutout")
        assert system.augment.policy == ("cutout",)
        assert system.augment.training


def test_the_discriminator_sees_what_pictures_are_made_of():
    system = made(dropout=0.0, norm="batch").train()
    batch = rows(system, 4)
    other = Batch(source=batch.source.flip(0), target=batch.target)
    state, wrong = (system.prepare(each)._replace(fake=batch.target) for each in (batch, other))
    assert system.discriminator_loss(state)[0] != system.discriminator_loss(wrong)[0]


def test_trains_on_pairs_by_default():
    system = small("pix2pix")
    assert system.trains_on == "fluent"
    assert list(system.inputs()) == ["source", "target"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 48}, "one of 16, 32, 64, 128, 256, not 48"),
        ({"resolution": 16}, "layers must be at most 2 for pictures of 16 pixels a side, not 3"),
        ({"levels": 6}, "levels must be at most 5 for pictures of 32 pixels a side, not 6"),
        ({"levels": 1}, "levels must be at least 2, not 1"),
        ({"norm": "layer"}, "norm must be one of batch, instance, not 'layer'"),
        ({"loss": "wasserstein"}, "loss must be one of non_saturating, least_squares, hinge, not 'wasserstein'"),
        ({"l1": -1.0}, "l1 must be at least 0, not -1"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)
