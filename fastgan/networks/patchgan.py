"""The discriminator of pix2pix and CycleGAN, which tells patches of an image from real ones: Isola, Zhu, Zhou, Efros,
"Image-to-Image Translation with Conditional Adversarial Networks", 2017, section 3.2.2."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

NORMS = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}


def patchgan(channels: int = 3, width: int = 64, layers: int = 3, norm: str = "instance") -> nn.Sequential:
    """(N, channels, H, W) -> (N, 1, H / 2^layers - 2, W / 2^layers - 2) logits, each of a patch that overlaps others;
    without layers (N, 1, H, W), each of a pixel

    channels: of an image; of both, one after the other, where the discriminator sees a pair, as pix2pix's does.
    width: channels of the largest maps; they double at each layer, up to 8 times as many.
    layers: of stride 2; 3 see patches of 70x70 pixels, 1 of 16x16, 0 single pixels (the paper's PixelGAN).
    norm: instance, as CycleGAN has it, or batch, as pix2pix.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {norm!r}")
    if not layers:
        return nn.Sequential(
            nn.Conv2d(channels, width, 1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, width * 2, 1, bias=norm != "batch"),
            NORMS[norm](width * 2),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(width * 2, 1, 1),
        )
    widths = [width * min(2**level, 8) for level in range(layers + 1)]
    result: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for level, (before, after) in enumerate(pairwise(widths), start=1):
        stride = 2 if level < layers else 1
        result.append(nn.Conv2d(before, after, 4, stride, 1, bias=norm != "batch"))  # batch norm has one of its own
        result += [NORMS[norm](after), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*result, nn.Conv2d(widths[-1], 1, 4, 1, 1))
