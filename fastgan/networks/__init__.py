"""Networks of the papers, one architecture a file, which systems and `fastgan bench` share.

    from fastgan.networks import UNet, patchgan
    generator, discriminator = UNet(), patchgan(channels=6, norm="batch")

`dcgan`, `resize_dcgan`, `residual` and `perceptron` are modules, each with a `generator` and a `discriminator`. Only
`dcgan` is built of fused layers; `fastgan.fuse` makes the others, which are plain torch.nn, faster.
"""

from fastgan.networks import dcgan, perceptron, residual, resize_dcgan
from fastgan.networks.colorizer import Colorizer
from fastgan.networks.context_encoder import context_encoder
from fastgan.networks.efficientnet_lite import efficientnet_lite0
from fastgan.networks.patchgan import patchgan
from fastgan.networks.resnet_translator import resnet_translator
from fastgan.networks.small_features import small_features
from fastgan.networks.srgan import SRGANGenerator, srgan_discriminator
from fastgan.networks.unet import UNet
from fastgan.networks.vgg import vgg16, vgg19

__all__ = [
    "Colorizer",
    "SRGANGenerator",
    "UNet",
    "context_encoder",
    "dcgan",
    "efficientnet_lite0",
    "patchgan",
    "perceptron",
    "residual",
    "resize_dcgan",
    "resnet_translator",
    "small_features",
    "srgan_discriminator",
    "vgg16",
    "vgg19",
]
