"""PairedCycleGAN: its networks by numbers, its steps against a loop in plain PyTorch, its references."""

import pytest
import torch
import torch.nn.functional as F

from fastgan.data import Batch, ImageData, Together
from fastgan.data.fields import Images
from fastgan.metrics.translation import evaluate
from fastgan.networks.makeup import MakeupGenerator
from fastgan.systems import create
from fastgan.systems.registry import find
from fastgan.training import Step
from tests.systems.every import rows
from tests.systems.plain_loop import leaves, weights
from tests.systems.test_cyclegan import conv, patches
from tests.systems.test_dcgan import parameters, shapes

TINY = {"resolution": 16, "channels": 2, "width": 4, "blocks": 1, "layers": 1}
GENERATORS = ("applier", "remover")
DISCRIMINATORS = ("discriminator_worn", "discriminator_bare")
PAIR = "discriminator_pair"
KNOWN = "target,bare,lips,lids,cheeks"


def made(**options):
    torch.manual_seed(0)
    return create("pairedcyclegan", **{**TINY, **options})


@pytest.fixture(scope="module")
def paper():
    return create("pairedcyclegan", known="target")


class TestArchitecture:
    def test_generators(self, paper):
        first, second = ((64, 3, 7, 7), 1, 0), ((128, 64, 3, 3), 2, 1)
        rest = [
            ((256, 128, 3, 3), 2, 1),
            *[((256, 256, 3, 3), 1, 0)] * 18,
            ((256, 128, 3, 3), 2, 1),
            ((128, 64, 3, 3), 2, 1),
            ((4, 64, 7, 7), 1, 0),  # three colors and the mask
        ]
        assert shapes(paper.remover) == [first, second, *rest]
        assert shapes(paper.applier) == [first, first, ((128, 128, 3, 3), 2, 1), *rest]
        # CycleGAN's 11,378,179 and the mask's weights; those of the reference's features and where they go in.
        assert parameters(paper.remover) == 11_378_179 + 64 * 49 + 1 == 11_381_316
        assert parameters(paper.applier) == 11_381_316 + 64 * 3 * 49 + 64 + 128 * 64 * 9 == 11_464_516

    def test_discriminators(self, paper):
        for name, channels in ((DISCRIMINATORS[0], 3), (DISCRIMINATORS[1], 3), (PAIR, 6)):
            network = paper.get_submodule(name)
            assert shapes(network)[0] == ((64, channels, 4, 4), 2, 1)
            assert parameters(network) == 2_764_737 + (channels - 3) * 64 * 16

    def test_without_targets_none_judges_pairs(self):
        assert not hasattr(made(), PAIR)
        assert not hasattr(made(known="bare,lips"), PAIR)
        assert hasattr(made(known="target"), PAIR)

    def test_a_mask_without_opacity_leaves_the_picture(self):
        network = MakeupGenerator(4, 1).eval()
        x, y = torch.rand(2, 2, 3, 16, 16) * 2 - 1
        with torch.no_grad():
            network.layers[-1].weight.zero_()
            network.layers[-1].bias.copy_(torch.tensor([9.0, -9.0, 9.0, -99.0]))
            assert torch.equal(network(x, y), x)
            network.layers[-1].bias[3] = 99.0
            expected = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1).expand_as(x)
            assert torch.allclose(network(x, y), expected, atol=1e-6)

    def test_the_reference_counts(self):
        system = made()
        x, y = torch.rand(2, 3, 2, 16, 16) * 2 - 1
        applied = system.translate(x, reference=y)
        assert torch.equal(applied, system.applier.eval()(x, y))
        assert not torch.allclose(applied, system.translate(x, reference=y.flip(0)), atol=1e-4)
        assert torch.equal(system.translate(y, "remove"), system.remover.eval()(y))


def generated(x, y, p):
    """One residual block; y: a reference, or None."""

    def reflected(x, name, by):
        return conv(F.pad(x, (by,) * 4, mode="reflect"), p, name)

    norm = F.instance_norm
    maps = norm(reflected(x, "source.1", 3)).relu()
    if y is not None:
        maps = torch.cat([maps, norm(reflected(y, "reference.1", 3)).relu()], 1)
    maps = norm(conv(maps, p, "layers.0", 2, 1)).relu()
    maps = norm(conv(maps, p, "layers.3", 2, 1)).relu()
    block = norm(reflected(maps, "layers.6.layers.1", 1)).relu()
    maps = maps + norm(reflected(block, "layers.6.layers.5", 1))
    for name in ("layers.7", "layers.10"):
        maps = norm(F.conv_transpose2d(maps, p[f"{name}.weight"], p[f"{name}.bias"], 2, 1, output_padding=1)).relu()
    last = reflected(maps, "layers.14", 3)
    mask = torch.sigmoid(last[:, -1:])
    return (1 - mask) * x + mask * torch.tanh(last[:, :-1])


def plain_step(networks, *, loss="non_saturating", anneal=0, identity=1.0, style=1.0):
    """Of copies of the weights: all discriminators first, then both generators."""
    apply, remove, *discriminators = networks
    optimizers = [
        torch.optim.Adam([leaf for each in group for leaf in leaves(each)], 2e-4, (0.5, 0.999))
        for group in (discriminators, (apply, remove))
    ]
    number = 0

    def against(logits, label):
        if loss == "least_squares":
            return 0.5 * (logits - label).square().mean()
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

    def step(x, y, target=None):
        nonlocal number
        share = 0.1 + 0.4 * min(number / anneal, 1) if anneal else 0.1
        number += 1
        applied, removed = generated(x, y, apply), generated(y, None, remove)
        judged = [(y, applied), (x, removed)]
        if target is not None:
            judged.append((torch.cat([y, target], 1), torch.cat([y, applied], 1)))
        assert len(judged) == len(discriminators)
        optimizers[0].zero_grad()
        for (real, fake), d in zip(judged, discriminators):
            (against(patches(real, d), 1.0) + against(patches(fake.detach(), d), 0.0)).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        total = share * sum(against(patches(fake, d), 1.0) for (_, fake), d in zip(judged, discriminators))
        total = total + identity * (generated(applied, None, remove) - x).abs().mean()
        total = total + style * (generated(removed, applied, apply) - y).abs().mean()
        total.backward()
        optimizers[1].step()

    return step


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"known": KNOWN},
        {"known": "target", "anneal": 2},
        {"known": "target", "loss": "least_squares", "identity": 3.0, "style": 0.5},
    ],
    ids=str,
)
def test_steps_are_those_of_plain_pytorch(options):
    system = made(**options).double()
    names = [*GENERATORS, *DISCRIMINATORS, *([PAIR] if "target" in system.known else [])]
    networks = [system.get_submodule(name) for name in names]
    copies = [weights(network) for network in networks]
    before = [{name: value.detach().clone() for name, value in copy.items()} for copy in copies]
    theirs = plain_step(copies, **{name: value for name, value in options.items() if name != "known"})
    ours = Step(system, precision="float32", channels_last=False)
    for number in range(3):
        batch = rows(system, 2, number).map(torch.Tensor.double)
        ours(batch)
        if "target" in system.known:
            theirs(batch.source, batch.reference, batch.target)
        else:
            theirs(batch.a, batch.b)
    for network, copy, first in zip(networks, copies, before):
        for name, value in network.named_parameters():
            assert (value - copy[name]).abs().max() <= 1e-8, name
            assert "weight" not in name or (value - first[name]).abs().max() > 1e-5, name


def test_annealing_goes_on_from_a_checkpoint():
    system = made(anneal=4).train()
    for _ in range(3):
        system.weight()
    again = made(anneal=4)
    again.load_state_dict(system.state_dict())
    assert [float(again.weight()) for _ in range(3)] == pytest.approx([0.4, 0.5, 0.5])
    assert made().weight() == 0.1


def test_augmentation_is_of_all_that_the_discriminators_see():
    system = made(known="target", augment="translation").train()
    seen, judged = [], []
    system.augment.register_forward_hook(lambda module, inputs, output: seen.append(output))
    for name in (*DISCRIMINATORS, PAIR):
        system.get_submodule(name).register_forward_pre_hook(lambda module, inputs: judged.append(inputs[0]))
    state = system.prepare(rows(system, 2))
    list(system.discriminators_loss(state))
    system.generators_loss(state)
    assert len(judged) == len(seen) == 9
    assert all(any(x is y for y in seen) for x in judged)


class TestData:
    def options(self, *names, side=64):
        fields = {name: Images(1 if name in ("lips", "lids", "cheeks") else 3, side, side) for name in names}
        return find("pairedcyclegan").options_for(fields, {})

    def test_what_it_has_is_what_it_knows(self):
        heads = ("source", "reference", "target", "bare", "lips", "lids", "cheeks", "a", "b")
        assert self.options(*heads) == {"channels": 3, "resolution": 64, "known": KNOWN}
        assert self.options("source", "reference", "target")["known"] == "target"
        assert "known" not in self.options("a", "b")

    def test_fields(self):
        assert set(made().inputs()) == {"a", "b"}
        assert set(made(known="target").inputs()) == {"source", "reference", "target"}
        inputs = made(known=KNOWN).inputs()
        assert set(inputs) == {"source", "reference", *KNOWN.split(",")}
        assert (inputs["target"].channels, inputs["lips"].channels) == (2, 1)

    def test_examples_with_truths(self):
        system = made(known=KNOWN)
        batch = rows(system, 3)
        found = {example.name: example for example in system.examples(batch, torch.Generator())}
        assert list(found) == ["apply", "lips", "lids", "cheeks", "outside", "remove"]
        for name in ("apply", "lips", "lids"):
            assert found[name].images is not batch.reference
            assert torch.equal(found[name].images, batch.source)
            assert torch.equal(found[name].inputs["reference"], batch.reference)
            assert torch.equal(found[name].truth, batch.target)
        assert torch.equal(found["lids"].region, batch.lids > 0)
        assert torch.equal(found["remove"].images, batch.reference)
        assert torch.equal(found["remove"].truth, batch.bare)
        assert not found["remove"].inputs
        assert [panel.name for panel in system.show(batch)] == ["apply", "remove"]

    def test_outside_of_the_masks_the_truth_is_the_picture_itself(self):
        system = made(known=KNOWN)
        batch = rows(system, 3)
        batch.lips[:] = batch.lids[:] = batch.cheeks[:] = -1
        batch.lips[:, :, :4], batch.cheeks[:, :, :, 9:] = 1, -0.9
        found = {example.name: example for example in system.examples(batch, torch.Generator())}["outside"]
        assert torch.equal(found.truth, batch.source)
        assert not found.shown
        expected = torch.zeros(3, 1, 16, 16, dtype=torch.bool)
        expected[:, :, 4:, :9] = True
        assert torch.equal(found.region, expected)
        some = Batch(**{name: batch[name] for name in ("source", "reference", "lips")})
        names = [example.name for example in made(known="lips").examples(some, torch.Generator())]
        assert names == ["apply", "outside lips", "remove"]

    @pytest.mark.parametrize(("inside", "everywhere", "levels"), [(40.0, 0.0, 0.0), (0.0, 3.0, 3.0)])
    def test_the_change_outside_of_the_masks_in_gray_levels(self, monkeypatch, inside, everywhere, levels):
        system = made(known=KNOWN, channels=3)
        pictures = {name: torch.randint(60, 180, (4, 3, 16, 16), dtype=torch.uint8) for name in ("source", "reference")}
        pictures |= dict.fromkeys(("target", "bare"), pictures["source"])
        pictures |= {name: torch.zeros(4, 1, 16, 16, dtype=torch.uint8) for name in ("lips", "lids", "cheeks")}
        pictures["lips"][:, :, 3:7, 3:7] = 255
        data = Together("rows", {name: (ImageData(values, name=name), "image") for name, values in pictures.items()})
        added = torch.where(pictures["lips"][:1] > 0, inside, 0.0) + everywhere
        monkeypatch.setattr(system, "forward", lambda images, *_, **inputs: images + added / 127.5)
        found = evaluate(system, data, features="small")
        assert found.values["outside"]["l1"] * 255 == pytest.approx(levels, abs=1e-3)
        assert found.baseline["outside"]["l1"] == 0

    def test_regions_do_not_count_again_for_the_best(self):
        system = made(known=KNOWN)
        batch = rows(system, 3)
        fields = {name: (ImageData(((values + 1) * 127).byte(), name=name), "image") for name, values in batch.items()}
        found = list(system.outputs(Together("rows", fields), 3, torch.Generator()))
        assert [(len(each.values), each.against) for each in found] == [(3, "reference"), (3, "source")]
        assert [each.truth.shape[1:] for each in found] == [(2, 16, 16)] * 2

    def test_examples_of_domains(self):
        system = made()
        batch = Batch(a=torch.zeros(2, 2, 16, 16), b=torch.ones(3, 2, 16, 16))
        apply, remove = system.examples(batch, torch.Generator())
        assert len(apply.images) == len(apply.inputs["reference"]) == 2
        assert torch.equal(remove.images, batch.b)
        assert apply.truth is None
        assert remove.truth is None


class TestReference:
    def test_of_another_size(self):
        system, images, small = made(), torch.rand(1, 2, 16, 24), torch.rand(1, 2, 9, 13)
        whole = F.interpolate(small, (16, 24), mode="bicubic", antialias=True).clamp(-1, 1)
        expected = system.translate(images, reference=whole)
        assert torch.allclose(system.translate(images, reference=small), expected, atol=1e-5)
        assert not torch.allclose(system.translate(images, reference=small.flip(3)), expected, atol=1e-3)

    @pytest.mark.parametrize(
        ("direction", "reference", "message"),
        [
            ("apply", None, "applies the make-up of a reference: give one, or take direction remove"),
            ("remove", (1, 2, 16, 16), "takes no reference in direction remove: leave it out"),
            ("apply", (1, 3, 16, 16), "reference must have 2 channels, not 3"),
            ("apply", (2, 2, 16, 16), r"reference must be \(N, C, H, W\) with a row for each of the 1 images"),
        ],
    )
    def test_says_what_is_wrong(self, direction, reference, message):
        inputs = {} if reference is None else {"reference": torch.zeros(reference)}
        with pytest.raises(ValueError, match=message):
            made().translate(torch.zeros(1, 2, 16, 16), direction, **inputs)

    def test_is_an_input_of_what_is_exported(self):
        system = made().eval()
        function, inputs = system.recording()
        assert list(inputs) == ["images", "reference"]
        x, y = torch.rand(2, 1, 2, 16, 16)
        assert torch.equal(function(x, y), system.translate(x, reference=y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 18}, "resolution must be a multiple of 4, not 18"),
        ({"known": "face"}, "known must be .*target.*, not 'face'"),
        ({"style": -1.0}, "style must be at least 0, not -1"),
        ({"loss": "best"}, "loss must be one of"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)
