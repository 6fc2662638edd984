"""The networks are the published ones, and no speed is reported for one whose numbers are wrong."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import fastgan
from fastgan import networks as nets
from fastgan.bench.cases import networks
from fastgan.bench.timing import WrongResult

TINY = {
    "rc-dcgan": (
        lambda: (nets.resize_dcgan.generator(8, 4), nets.resize_dcgan.discriminator(4)),
        ((3, 64, 64), (8, 1, 1)),
    ),
    "sngan": (lambda: networks.sngan(8, 8, 8), ((3, 32, 32), (8,))),
    "cyclegan": (lambda: (nets.resnet_translator(8, 2),), ((3, 32, 32), (3, 32, 32))),
    "srgan": (lambda: (nets.SRGANGenerator(16, 2),), ((3, 8, 8), (3, 32, 32))),
    "pix2pix": (lambda: (nets.UNet(16),), ((3, 256, 256), (3, 256, 256))),
    "vgg": (lambda: (nets.vgg19(4),), ((3, 32, 32), (32, 2, 2))),
}
FUSED = "eager + fastgan.fuse"


def tiny(name: str) -> networks.NetworkCase:
    make, inputs = TINY[name]
    (case,) = networks.cases([name])
    return dataclasses.replace(case, make=make, inputs=inputs, batch=2)


@pytest.mark.parametrize("name", TINY)
def test_shapes(name: str) -> None:
    case = tiny(name)
    first, second = case.tensors(2, torch.contiguous_format)
    made = case.networks(torch.contiguous_format)
    if len(made) == 2:
        fake = made[0](second)
        assert fake.shape == first.shape
        assert made[1](fake).numel() == 2
    else:
        assert made[0](first).shape == second.shape


def test_sngan_discriminator_is_lipschitz() -> None:
    """Spectral norm sits on every layer: after power iterations all largest singular values are 1."""
    _, network = networks.sngan(8, 8, 8)
    with torch.no_grad():
        for _ in range(100):
            network(torch.randn(1, 3, 32, 32))
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        norms = [torch.linalg.matrix_norm(layer.eval().weight.flatten(1), 2) for layer in layers]
    assert len(norms) == 11
    torch.testing.assert_close(torch.stack(norms), torch.ones(11), rtol=0.02, atol=0)


@pytest.mark.parametrize("dtype", networks.DTYPES)
@pytest.mark.parametrize("name", TINY)
def test_fused_networks_pass(name: str, dtype: str) -> None:
    if (name, dtype) != ("pix2pix", "bfloat16"):  # maps of 1x1 at width 8: noise only
        networks.check(tiny(name), dtype)


@pytest.mark.parametrize("name", ["rc-dcgan", "pix2pix"])
def test_a_wrong_slope_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def slightly_wrong(network: nn.Module) -> nn.Module:
        for module in network.modules():
            if isinstance(module, nn.LeakyReLU):
                module.negative_slope = 0.21
        return fastgan.fuse(network)

    monkeypatch.setitem(networks.TRANSFORMS, FUSED, slightly_wrong)
    with pytest.raises(WrongResult, match="is off by"):
        networks.check(tiny(name), "float32")


def test_eager_pytorch_is_not_believed_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: nn.Module) -> nn.Module:
        if next(network.parameters()).dtype is torch.float32:
            next(network.parameters()).register_hook(lambda grad: -9 * grad)
        return network

    monkeypatch.setitem(networks.TRANSFORMS, "eager", broken)
    with pytest.raises(WrongResult, match="PyTorch's own gradients"):
        networks.check(tiny("cyclegan"), "float32")


def test_gan_step_trains_each_network_with_its_own_gradient() -> None:
    """Against the formulas: D by real and fake, then G through the D that has moved."""
    case = tiny("rc-dcgan")
    plain = case.networks(torch.contiguous_format)
    images, latent = case.tensors(4, torch.contiguous_format)
    losses = networks.GANStep(plain, lambda network: network, "float32", 1e-3)(images, latent)

    generator, discriminator = case.networks(torch.contiguous_format)
    fake = generator(latent)
    softplus = nn.functional.softplus
    real_logits, fake_logits = discriminator(images), discriminator(fake.detach())
    assert losses[0] == pytest.approx((softplus(-real_logits).mean() + softplus(fake_logits).mean()).item())
    unmoved = softplus(-discriminator(fake)).mean()
    assert losses[1] != pytest.approx(unmoved.item(), rel=1e-5)
    discriminator.load_state_dict(plain[1].state_dict())
    moved = softplus(-discriminator(fake)).mean()
    assert losses[1] == pytest.approx(moved.item(), rel=1e-5)
    moved.backward()
    torch.testing.assert_close(plain[0][-2].weight.grad, generator[-2].weight.grad, rtol=1e-3, atol=1e-6)


def test_hinge() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert networks.hinge(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert networks.hinge_generator(fake).item() == pytest.approx(1.5)


def test_variants_have_the_layout_that_they_name(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts: list[torch.memory_format] = []
    made = networks.NetworkCase.networks
    monkeypatch.setattr(
        networks.NetworkCase, "networks", lambda self, layout: layouts.append(layout) or made(tiny(self.name), layout)
    )
    for name, how in (("cyclegan", "eager"), ("cyclegan", f"{FUSED}, channels_last"), ("srgan", FUSED)):
        networks.SUITE[how].make(name, "float32", 1)
    assert layouts == [torch.contiguous_format, torch.channels_last, torch.channels_last]


def test_variants_and_rows() -> None:
    (case,) = networks.cases(["cyclegan"])
    assert [variant.name for variant in case.variants()] == ["eager", FUSED, f"{FUSED}, channels_last"]
    assert case.layout(networks.SUITE[FUSED]) is torch.contiguous_format
    assert case.layout(networks.SUITE[f"{FUSED}, channels_last"]) is torch.channels_last
    assert [variant.name for variant in tiny("srgan").variants(compiled=True)] == ["eager", FUSED, "compile"]
    assert len(networks.SUITE[FUSED].make("srgan", "float32", 1)()) == 1
    with pytest.raises(ValueError, match="no network 'resnet'; there are rc-dcgan, sngan"):
        networks.cases(["resnet"])


def test_arithmetic_is_counted_forward_and_backward() -> None:
    """Of one matrix product whose input needs no gradient: two products, two for each multiplication and addition."""

    class Product(networks.NetworkCase):
        pass

    case = Product(
        "p", "p", lambda: (nn.Conv2d(1000, 1000, 1),), networks.Regression, 5, ((1000, 2, 1), (1000, 2, 1)), 1
    )
    assert networks._gflop(case) == pytest.approx(
        5 * 2 * 1000 * 1000 * 2 * 2 / 1e9, abs=0.05
    )  # inputs need no gradient
