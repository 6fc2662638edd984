"""CycleGAN against the layers of its authors' code, and against a loop in plain PyTorch."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.data import Batch, Batches, load
from fastgan.data.sources.two_sides import TwoSides
from fastgan.random import drawing_from
from fastgan.systems import create
from fastgan.training import Step
from tests.systems.every import rows
from tests.systems.plain_loop import leaves, weights
from tests.systems.test_dcgan import parameters, shapes

TINY = {"resolution": 16, "channels": 2, "width": 4, "blocks": 1, "layers": 1}
NAMES = ("forth", "back", "discriminator_a", "discriminator_b")


def made(**options):
    torch.manual_seed(0)
    return create("cyclegan", **{**TINY, **options})


@pytest.fixture(scope="module")
def paper():
    return create("cyclegan")


class TestArchitecture:
    @pytest.mark.parametrize("name", ["forth", "back"])
    def test_generators(self, paper, name):
        network = paper.get_submodule(name)
        assert shapes(network) == [
            ((64, 3, 7, 7), 1, 0),
            ((128, 64, 3, 3), 2, 1),
            ((256, 128, 3, 3), 2, 1),
            *[((256, 256, 3, 3), 1, 0)] * 18,
            ((256, 128, 3, 3), 2, 1),
            ((128, 64, 3, 3), 2, 1),
            ((3, 64, 7, 7), 1, 0),
        ]
        assert parameters(network) == 11_378_179  # 11.378 M

    @pytest.mark.parametrize("name", ["discriminator_a", "discriminator_b"])
    def test_discriminators(self, paper, name):
        network = paper.get_submodule(name)
        assert shapes(network) == [
            ((64, 3, 4, 4), 2, 1),
            ((128, 64, 4, 4), 2, 1),
            ((256, 128, 4, 4), 2, 1),
            ((512, 256, 4, 4), 1, 1),
            ((1, 512, 4, 4), 1, 1),
        ]
        assert parameters(network) == 2_764_737  # 2.765 M

    @pytest.mark.parametrize(
        ("options", "blocks"), [({"resolution": 128}, 6), ({"resolution": 256}, 9), ({"blocks": 2}, 2)]
    )
    def test_blocks(self, options, blocks):
        system = create("cyclegan", **{"width": 2, "resolution": 64, **options})
        assert len(shapes(system.forth)) == 6 + 2 * blocks
        assert len(shapes(system.back)) == 6 + 2 * blocks

    def test_initial_weights(self, paper):
        for name, parameter in paper.named_parameters():
            if parameter.dim() == 4:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
            else:
                assert not parameter.any(), name

    def test_sizes(self):
        system = made()
        assert system.translate(torch.zeros(1, 2, 8, 20)).shape == (1, 2, 8, 20)
        for bad in ((4, 8), (8, 10)):
            with pytest.raises(ValueError, match="sides are multiples of 4, at least 8 pixels"):
                system.translate(torch.zeros(1, 2, *bad))

    def test_each_direction_has_its_generator(self):
        system, pictures = made().eval(), torch.rand(1, 2, 16, 16)
        assert torch.equal(system.translate(pictures), system.forth(pictures))
        assert torch.equal(system.translate(pictures, "b to a"), system.back(pictures))
        assert not torch.equal(system.forth(pictures), system.back(pictures))


def conv(x, p, name, stride=1, padding=0):
    return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], stride, padding)


def resnet(x, p):
    """One residual block: as networks.ResnetGenerator of the authors has it."""

    def reflected(x, name, by):
        return conv(F.pad(x, (by,) * 4, mode="reflect"), p, name)

    norm = F.instance_norm
    x = norm(reflected(x, "1", 3)).relu()
    x = norm(conv(x, p, "4", 2, 1)).relu()
    x = norm(conv(x, p, "7", 2, 1)).relu()
    x = x + norm(reflected(norm(reflected(x, "10.layers.1", 1)).relu(), "10.layers.5", 1))
    for name in ("11", "14"):
        x = norm(F.conv_transpose2d(x, p[f"{name}.weight"], p[f"{name}.bias"], 2, 1, output_padding=1)).relu()
    return reflected(x, "18", 3).tanh()


def patches(x, p):
    x = F.leaky_relu(conv(x, p, "0", 2, 1), 0.2)
    return conv(F.leaky_relu(F.instance_norm(conv(x, p, "2", 1, 1)), 0.2), p, "5", 1, 1)


class Pool:
    """util/image_pool.py of the authors for batches of one picture, with the random numbers of ours."""

    def __init__(self, size):
        self.size, self.pictures = size, []

    def __call__(self, fake):
        if not self.size:
            return fake
        keys, drawn = torch.rand(self.size), torch.rand(1)
        if len(self.pictures) < self.size:
            self.pictures.append(fake)
            return fake
        place = keys.argmin()
        if drawn < 0.5:
            old, self.pictures[place] = self.pictures[place], fake
            return old
        return fake


def plain_step(forth, back, d_a, d_b, pool=2, cycle=10.0, identity=0.5):
    """Of copies of the weights: both generators first, then both discriminators."""
    pools = Pool(pool), Pool(pool)
    optimizers = [
        torch.optim.Adam([*leaves(p), *leaves(q)], 2e-4, (0.5, 0.999)) for p, q in ((forth, back), (d_a, d_b))
    ]

    def far(x, y):
        return (x - y).abs().mean()

    def step(a, b):
        fake_b, fake_a = resnet(a, forth), resnet(b, back)
        loss = (patches(fake_b, d_b) - 1).square().mean() + (patches(fake_a, d_a) - 1).square().mean()
        loss = loss + cycle * (far(resnet(fake_b, back), a) + far(resnet(fake_a, forth), b))
        loss = loss + cycle * identity * (far(resnet(b, forth), b) + far(resnet(a, back), a))
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        for real, fake, d, pool in ((a, fake_a, d_a, pools[0]), (b, fake_b, d_b, pools[1])):
            shown = pool(fake.detach())
            (0.5 * ((patches(real, d) - 1).square().mean() + patches(shown, d).square().mean())).backward()
        optimizers[1].step()

    return step


@pytest.mark.parametrize(
    "options", [{"pool": 2}, {"pool": 0, "identity": 0.0}, {"pool": 1, "cycle": 3.0, "identity": 0.2}], ids=str
)
def test_steps_are_those_of_plain_pytorch(options):
    """Eight of them, so that pictures come back from the pools."""
    system = made(**options).double()
    networks = [system.get_submodule(name) for name in NAMES]
    copies = [weights(network) for network in networks]
    before = [{name: value.detach().clone() for name, value in copy.items()} for copy in copies]
    theirs, ours = plain_step(*copies, **options), Step(system, precision="float32", channels_last=False)
    for number in range(8):
        batch = rows(system, 1, number).map(torch.Tensor.double)
        torch.manual_seed(number)
        ours(batch)
        torch.manual_seed(number)
        theirs(batch.a, batch.b)
    for network, copy, first in zip(networks, copies, before):
        for name, value in network.named_parameters():
            assert (value - copy[name]).abs().max() <= 1e-8, name
            assert "weight" not in name or (value - first[name]).abs().max() > 1e-5, name


def test_pictures_come_back_from_the_pools():
    system = made(pool=1).train()
    shown = []
    system.discriminator_a.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    made_of = []
    for number in range(8):
        state = system.prepare(rows(system, 1, number))
        made_of.append(state.fake_a.detach())
        list(system.discriminators_loss(state))
    fakes = shown[1::2]
    new = [torch.equal(x, y) for x, y in zip(fakes, made_of)]
    assert new[0]
    assert not all(new)
    assert all(any(torch.equal(x, y) for y in made_of) for x in fakes)


class TestAugmentation:
    def test_is_of_all_that_the_discriminators_see(self):
        system = made(augment="translation").train()
        seen, judged = [], []
        system.augment.register_forward_hook(lambda module, inputs, output: seen.append(output))
        for name in NAMES[2:]:
            system.get_submodule(name).register_forward_pre_hook(lambda module, inputs: judged.append(inputs[0]))
        state = system.prepare(rows(system, 2))
        list(system.generators_loss(state))
        list(system.discriminators_loss(state))
        assert len(judged) == len(seen) == 6
        assert all(any(x is y for y in seen) for x in judged)

    def test_the_pools_hold_pictures_as_they_were_made(self):
        system = made(augment="cutout").train()
        state = system.prepare(rows(system, 2))
        list(system.discriminators_loss(state))
        assert torch.equal(system.pool_a.images[:2], state.fake_a.detach())


def test_its_random_numbers_are_the_runs():
    system, generator = made(augment="translation").train(), torch.Generator().manual_seed(1)
    before = torch.get_rng_state()
    with drawing_from(lambda device: generator):
        Step(system)(rows(system, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(generator.get_state(), torch.Generator().manual_seed(1).get_state())


def test_a_picture_does_not_depend_on_the_others():
    system = made().train()
    batch = rows(system, 3)
    state, alone = system.prepare(batch), system.prepare(Batch(a=batch.a[:1], b=batch.b[:1]))
    assert torch.allclose(state.fake_b[:1], alone.fake_b, atol=1e-5)


def test_windows_of_large_pictures_or_their_middles():
    pictures = TwoSides("photos", load("photos"), load("photos"))
    rows = {}
    for fit in "crop", "cut":
        wanted = made(channels=3, fit=fit).inputs()
        batches = Batches(pictures.adapted(wanted), 9, workers=0)
        seen = torch.cat([next(batches).a.flatten(1) for _ in range(2)])
        rows[fit] = len(seen.unique(dim=0))
    assert rows == {"crop": 9, "cut": 18}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 18}, "resolution must be a multiple of 4, not 18"),
        ({"layers": 3}, "layers must be at most 2 for pictures of 16 pixels a side, not 3"),
        ({"blocks": -1}, "blocks must be at least 0, not -1"),
        ({"pool": -1}, "pool must be at least 0, not -1"),
        ({"identity": -0.5}, "identity must be at least 0, not -0.5"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)
