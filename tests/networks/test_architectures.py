"""The networks are the published ones: their sizes, shapes, and what each pixel of a result sees."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fastgan import networks
from fastgan.networks import dcgan, perceptron, residual, resize_dcgan
from fastgan.networks.makeup import MakeupGenerator
from fastgan.networks.upsampling import doubled


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (lambda: networks.UNet(), 54_413_955),  # as pytorch-CycleGAN-and-pix2pix prints: 54.414 M
        (lambda: networks.resnet_translator(), 11_378_179),  # 11.378 M
        (lambda: networks.patchgan(), 2_764_737),  # 2.765 M
        (lambda: networks.patchgan(6, norm="batch"), 2_768_705),  # 2.769 M
        (lambda: networks.SRGANGenerator(), 1_547_350),
        (lambda: networks.srgan_discriminator(), 23_563_649),
        (lambda: networks.context_encoder(), 71_124_544),
        (lambda: networks.vgg19(), 20_024_384),  # torchvision's vgg19().features
        (lambda: networks.vgg16(), 14_714_688),  # and vgg16().features
        (lambda: networks.efficientnet_lite0(), 4_652_008 - 1281 * 1000),  # 4.7 M with its classifier
    ],
    ids=[
        "pix2pix",
        "cyclegan",
        "patchgan of cyclegan",
        "patchgan of pix2pix",
        "srgan",
        "discriminator of srgan",
        "context encoder",
        "vgg",
        "vgg16",
        "lite0",
    ],
)
def test_sizes_are_the_published_ones(network, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in network().parameters()) == parameters


@pytest.mark.parametrize(
    ("network", "shape", "result"),
    [
        (lambda: networks.UNet(4, 3, 1, 2), (1, 16, 24), (2, 16, 24)),
        (lambda: networks.UNet(4, 3, 1, 2, upsampling="resize"), (1, 16, 24), (2, 16, 24)),
        (lambda: networks.resnet_translator(4, 1, 1, 2), (1, 16, 24), (2, 16, 24)),
        (lambda: networks.resnet_translator(4, 1, 1, 2, "resize"), (1, 16, 24), (2, 16, 24)),
        (lambda: MakeupGenerator(4, 1, 1, False, "resize"), (1, 16, 24), (1, 16, 24)),
        (lambda: networks.patchgan(6, 4), (6, 64, 32), (1, 6, 2)),
        (lambda: networks.patchgan(3, 4, 1, "batch"), (3, 16, 16), (1, 6, 6)),
        (lambda: networks.SRGANGenerator(8, 1, 1), (1, 8, 6), (1, 32, 24)),
        (lambda: networks.srgan_discriminator(4, 24, 1), (1, 24, 24), (1,)),
        (lambda: networks.context_encoder(4, 32, 16, 8, 1), (1, 32, 32), (1, 16, 16)),
        (lambda: networks.context_encoder(4, 32, 32, 8, 1), (1, 40, 48), (1, 40, 48)),
        (lambda: networks.vgg19(2), (3, 32, 48), (16, 2, 3)),
        (lambda: dcgan.generator(8, 4, 32, 1), (8, 1, 1), (1, 32, 32)),
        (lambda: dcgan.generator(8, 4, 32, 1, "resize"), (8, 1, 1), (1, 32, 32)),
        (lambda: dcgan.discriminator(4, 32, 1), (1, 32, 32), (1, 1, 1)),
        (lambda: resize_dcgan.generator(8, 4, 1), (8, 1, 1), (1, 64, 64)),
        (lambda: resize_dcgan.discriminator(4, 1), (1, 64, 64), (1, 1, 1)),
        (lambda: residual.generator(8, [8, 4, 4], 1), (8,), (1, 16, 16)),
        (lambda: residual.discriminator(1, 4), (1, 32, 32), (1,)),
        (lambda: residual.discriminator(1, 4, 64), (1, 64, 64), (1,)),
        (lambda: residual.critic(1, [4] * 4), (1, 32, 32), (1,)),
        (lambda: residual.critic(1, [4, 4, 8, 8, 8]), (1, 64, 64), (1,)),
        (lambda: perceptron.generator(8, 4, 2), (8,), (2,)),
        (lambda: perceptron.discriminator(2, 4), (2,), (1,)),
    ],
)  # fmt: skip
def test_shapes(network, shape, result) -> None:
    assert network()(torch.randn(2, *shape)).shape == (2, *result)


@pytest.mark.parametrize(("layers", "size"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_of_patchgan_sees_a_patch(layers: int, size: int) -> None:
    network = networks.patchgan(1, 2, layers).eval()
    for module in network:
        if isinstance(module, nn.InstanceNorm2d):  # which sees the whole map
            module.forward = lambda x: x
    image = torch.randn(1, 1, 128, 128, requires_grad=True)
    logits = network(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows, columns = image.grad[0, 0].nonzero().unbind(1)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (size, size)


def test_another_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm must be one of batch, instance, not 'layer'"):
        networks.patchgan(norm="layer")


def test_the_skips_of_the_unet_carry_the_activated_maps() -> None:
    network = networks.UNet(4, levels=3)
    plain: list[torch.Tensor] = []
    skips: list[torch.Tensor] = []
    network.downs[0].register_forward_hook(lambda module, args, output: plain.append(output.clone()))
    network.last.register_forward_pre_hook(lambda module, args: skips.append(args[0][:, :4].clone()))
    network(torch.randn(1, 3, 16, 16))
    assert skips[0].equal(nn.functional.leaky_relu(plain[0], 0.2))


def test_doubled_without_checkerboards() -> None:
    """A constant map stays one inside its border; transposed convolutions of 3x3 kernels make four values of it."""
    for kind, kernel, values in (("resize", 3, 1), ("transposed", 3, 4), ("transposed", 4, 4)):
        layers = nn.Sequential(*doubled(3, 1, kind, kernel))
        inside = layers(torch.ones(1, 3, 6, 6)).detach()[0, 0, 2:-2, 2:-2]
        assert len({round(float(value), 4) for value in inside.flatten()}) == values
    for layer in (*doubled(3, 2, "resize", bias=False), *doubled(3, 2, "transposed", bias=False)):
        assert getattr(layer, "bias", None) is None
    with pytest.raises(ValueError, match="upsampling must be one of transposed, resize, not 'shuffle'"):
        doubled(3, 1, "shuffle")
