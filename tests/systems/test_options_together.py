"""The shared options in the systems whose discriminators do more than tell real from fake."""

from itertools import islice

import pytest
import torch

from fastgan.data import Batch, Batches, load
from fastgan.systems import create
from fastgan.training import Step
from tests.systems.plain_loop import images

BASE = {"resolution": 16, "channels": 1, "width": 4, "latent": 5}
OWN = {"sgan": {"labels_per_class": 2, "labelled_batch": 4}, "acgan": {}, "wngan": {}, "began": {}}
EVERYWHERE = {
    "discriminator_steps": 2, "generator_batches": 2, "clip_gradients": 1.0, "decay": "cosine", "decay_steps": 9
}  # fmt: skip
OF_LOGITS = {"r1": 1.0, "r1_every": 2, "augment": "color,translation,cutout", "dropout": 0.2}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", OWN)
def test_all_at_once(name, precision):
    torch.manual_seed(0)
    options = EVERYWHERE if name == "began" else {**EVERYWHERE, **OF_LOGITS}
    system = create(name, **BASE, **OWN[name], **options)
    batches = Batches(load("digits", resolution=16), 4 * system.batches)
    system.begin(islice(batches, 100))
    before = {key: value.detach().clone() for key, value in system.named_parameters()}
    step = Step(system, precision=precision)
    for _ in range(2):
        values = step(next(batches))
    assert all(value.isfinite() for value in values.values())
    moved = [not torch.equal(value, before[key]) for key, value in system.named_parameters() if value.requires_grad]
    assert sum(moved) > 0.9 * len(moved)


def logit(system, real):
    """The logit of a real image, from the discriminator's outputs."""
    outputs = system.discriminator(real)
    if system.name == "acgan":
        return outputs[0]
    return torch.log(outputs.exp().sum(1)) if system.name == "sgan" else outputs.flatten()


@pytest.mark.parametrize("name", ["sgan", "acgan", "wngan"])
def test_r1_is_of_the_logit_of_a_real_image(name):
    torch.manual_seed(0)
    system = create(name, **BASE, **OWN[name], r1=3.0, r1_every=2, dropout=0.0).double().train()
    if name == "sgan":
        system.images.normal_()
    real = images(system, 0).requires_grad_()
    state = system.prepare(Batch(image=real.detach(), label=torch.arange(len(real))))
    (gradient,) = torch.autograd.grad(logit(system, real).sum(), real)
    expected = 2 * 3.0 / 2 * gradient.square().flatten(1).sum(1).mean()  # twice as strong, every second step
    *_, (penalty, _) = system.discriminator_loss(state)
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-9)
    assert len(list(system.discriminator_loss(state))) == 1


@pytest.mark.parametrize("name", ["sgan", "acgan", "wngan"])
def test_augmentation_is_of_all_that_the_discriminator_sees(name):
    torch.manual_seed(0)
    system = create(name, **BASE, **OWN[name], augment="translation").train()
    if name == "sgan":
        system.images.normal_()
    seen = []
    system.augment.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    state = system.prepare(Batch(image=images(system, 0), label=torch.arange(4)))
    list(system.discriminator_loss(state))
    labelled = 1 if name == "sgan" else 0
    assert len(seen) == 2 + labelled
    assert seen[labelled] is not state.fake
    assert torch.equal(seen[labelled], state.real)
    assert torch.equal(seen[labelled + 1], state.fake)
    seen.clear()
    system.generator_loss(state)
    assert seen[0] is state.fake
    assert len(seen) == 1 + labelled  # sgan: the real images too, whose features are matched
