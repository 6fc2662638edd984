"""How near pictures are to what they should be: PSNR, SSIM, L1, a picture each.

Everything here takes pictures (N, C, H, W) in [-1, 1] and looks at them in [0, 1], in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.metrics.registry import WINDOW

LUMA = (0.299, 0.587, 0.114)  # of ITU-R BT.601
SIGMA = 1.5  # the deviation of the Gaussian of SSIM
K1, K2 = 0.01, 0.03


def l1(made: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
    """The mean absolute difference in [0, 1].

    made, truth: (N, C, H, W) in [-1, 1]; values beyond are clamped.   region: (N, 1, H, W) bool, where it counts; NaN
    for a picture without any.   ->   (N,) float64.   TypeError or ValueError for other tensors.
    """
    made, truth = _checked(made, truth, region)
    return _mean((made - truth).abs(), region)


def psnr(made: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
    """The peak signal-to-noise ratio in decibels, -10 log10 of the mean squared difference; infinite for equal ones.

    Arguments, result and errors as `l1`.
    """
    made, truth = _checked(made, truth, region)
    return -10 * _mean((made - truth).square(), region).log10()


def psnr_y(made: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
    """The same of luma alone, as super-resolution is judged; of pictures with one channel, of that.

    Luma is ITU-R BT.601's in its full range. Arguments, result and errors as `l1`.
    """
    _checked(made, truth, region)
    return psnr(_luma(made), _luma(truth), region)


def ssim(made: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
    """Structural similarity, at most 1: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error
    Visibility to Structural Similarity", 2004; a Gaussian of 11x11 pixels, deviation 1.5, the mean over the channels.

    Only windows that lie within the picture count, in a region those whose middle lies in it: sides of 11 pixels at
    least. It is scikit-image's `structural_similarity` with gaussian_weights, use_sample_covariance=False and
    data_range=1. Arguments, result and errors as `l1`.
    """
    made, truth = _checked(made, truth, region)
    if min(made.shape[2:]) < WINDOW:
        raise ValueError(f"SSIM needs sides of at least {WINDOW} pixels, not {tuple(made.shape[2:])}")
    channels = made.shape[1]
    places = torch.arange(WINDOW, dtype=made.dtype, device=made.device) - WINDOW // 2
    line = (-0.5 * (places / SIGMA).square()).exp()
    line = line / line.sum()

    def smooth(values: Tensor) -> Tensor:
        across = line.expand(channels, 1, 1, WINDOW)
        return F.conv2d(F.conv2d(values, across, groups=channels), across.mT, groups=channels)

    mean_a, mean_b = smooth(made), smooth(truth)
    variance_a = smooth(made.square()) - mean_a.square()
    variance_b = smooth(truth.square()) - mean_b.square()
    covariance = smooth(made * truth) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    likeness = likeness / ((mean_a.square() + mean_b.square() + c1) * (variance_a + variance_b + c2))
    margin = WINDOW // 2
    inner = None if region is None else region[:, :, margin:-margin, margin:-margin]
    return _mean(likeness, inner)


def _checked(made: Tensor, truth: Tensor, region: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both in [0, 1], float64."""
    for name, images in ("made", made), ("truth", truth):
        if not isinstance(images, Tensor) or not images.is_floating_point():
            given = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"{name} must be floating-point pictures (N, C, H, W) in [-1, 1], not {given}")
    if made.dim() != 4 or made.shape != truth.shape or 0 in made.shape:
        raise ValueError(
            f"made and truth must be (N, C, H, W) of one shape, not {tuple(made.shape)} and {tuple(truth.shape)}"
        )
    wanted = (len(made), 1, *made.shape[2:])
    if region is not None and (region.dtype != torch.bool or tuple(region.shape) != wanted):
        raise ValueError(f"region must be {wanted} of bool, not {tuple(region.shape)} of {region.dtype}")
    return _unit(made), _unit(truth)


def _unit(images: Tensor) -> Tensor:
    return (images.detach().to(torch.float64).clamp(-1, 1) + 1) / 2


def _luma(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    if images.shape[1] != 3:
        raise ValueError(f"luma is of pictures with 1 or 3 channels, not shape {tuple(images.shape)}")
    values = images.detach().to(torch.float64).clamp(-1, 1)
    return torch.einsum("nchw,c->nhw", values, values.new_tensor(LUMA))[:, None]


def _mean(values: Tensor, region: Tensor | None) -> Tensor:
    if region is None:
        return values.mean((1, 2, 3))
    inside = region.expand_as(values)
    return torch.where(inside, values, 0).sum((1, 2, 3)) / inside.sum((1, 2, 3))
