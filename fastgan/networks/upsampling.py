"""Maps to twice their size, in the two ways that generators do it."""

from __future__ import annotations

from torch import nn

from fastgan.options.groups import UPSAMPLING


def doubled(before: int, after: int, kind: str, kernel: int = 4, bias: bool = True) -> list[nn.Module]:
    """(N, before, H, W) -> (N, after, 2H, 2W)

    kind: transposed, a convolution of `kernel`, 3 or 4, and stride 2; or resize, nearest neighbors and a 3x3
        convolution, whose kernels overlap evenly (Odena et al. 2016, "Deconvolution and Checkerboard Artifacts").
    """
    if kind not in UPSAMPLING:
        raise ValueError(f"upsampling must be one of {', '.join(UPSAMPLING)}, not {kind!r}")
    if kind == "resize":
        return [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1, bias=bias)]
    return [nn.ConvTranspose2d(before, after, kernel, 2, 1, output_padding=4 - kernel, bias=bias)]
