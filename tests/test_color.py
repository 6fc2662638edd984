"""Colors against scikit-image in float64, and the pairs of Sharma, Wu, Dalal 2005, table 1."""

import numpy as np
import pytest
import torch
from skimage.color import deltaE_cie76, deltaE_ciede2000, lab2rgb, rgb2lab

from fastgan.color import delta_e, difference, lab_to_rgb, luma, rgb_to_lab

PAIRS = [  # L, a, b; L, a, b; Delta E
    (50, 2.6772, -79.7751, 50, 0, -82.7485, 2.0425),
    (50, -1.3802, -84.2814, 50, 0, -82.7485, 1.0000),
    (50, 0, 0, 50, -1, 2, 2.3669),
    (50, 2.49, -0.001, 50, -2.49, 0.0009, 7.1792),
    (50, 2.49, -0.001, 50, -2.49, 0.0011, 7.2195),
    (50, -0.001, 2.49, 50, 0.0011, -2.49, 4.7461),
    (50, 2.5, 0, 50, 0, -2.5, 4.3065),
    (50, 2.5, 0, 73, 25, -18, 27.1492),
    (50, 2.5, 0, 58, 24, 15, 19.4535),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]


def pictures(seed=0, dtype=torch.float64):
    values = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1
    values[0, :, 0, 0], values[0, :, 0, 1], values[0, :, 0, 2] = -1, 1, 0.25  # black, white, gray
    values[1, :, :2] *= 0.05  # near-grays
    return values


def last(values):
    return values.permute(0, 2, 3, 1).numpy()


def test_lab_is_that_of_scikit_image():
    images = pictures()
    lab = rgb_to_lab(images)
    assert np.abs(last(lab) - rgb2lab((last(images) + 1) / 2)).max() < 1e-8
    # scikit-image rounds the bounds of the linear parts differently on the way back.
    assert np.abs((last(lab_to_rgb(lab)) + 1) / 2 - lab2rgb(last(lab))).max() < 1e-6
    assert (lab_to_rgb(lab) - images).abs().max() < 1e-6


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_pairs_of_sharma(pair):
    first, second = (torch.tensor(part, dtype=torch.float64).view(1, 3, 1, 1) for part in (pair[:3], pair[3:6]))
    assert difference(first, second).item() == pytest.approx(pair[6], abs=5e-5)
    assert difference(second, first).item() == pytest.approx(pair[6], abs=5e-5)


@pytest.mark.parametrize(("formula", "theirs"), [("ciede2000", deltaE_ciede2000), ("cie76", deltaE_cie76)])
def test_delta_e_is_that_of_scikit_image(formula, theirs):
    a, b = pictures(), pictures(1)
    map_ = theirs(*(rgb2lab((last(each) + 1) / 2) for each in (a, b)))
    assert np.abs(delta_e(a, b, formula=formula).numpy() - map_.mean((1, 2))).max() < 1e-6
    region = torch.zeros(2, 1, 9, 7, dtype=torch.bool)
    region[:, :, 2:4, 1:3] = True
    expected = map_[:, 2:4, 1:3].mean((1, 2))
    assert np.abs(delta_e(a, b, region, formula).numpy() - expected).max() < 1e-6


def test_gradients_are_those_of_differences():
    images, other = pictures().clamp(-0.9, 0.9), pictures(1)
    images.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lab_to_rgb(rgb_to_lab(x)).square(), images[:, :, 4:6, :2], atol=1e-6)
    assert torch.autograd.gradcheck(lambda x: delta_e(x, other[:, :, 4:6, :2]), images[:, :, 4:6, :2], atol=1e-4)
    gray = torch.zeros(1, 3, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(delta_e(gray, torch.zeros(1, 3, 2, 2)).sum(), gray)
    assert gradient.isfinite().all()


def test_colors_that_srgb_has_not():
    lab = torch.tensor([[60.0, 120.0, -90.0], [30.0, -80.0, 80.0], [100.0, 40.0, 0.0], [0.0, 9.0, 9.0]]).view(
        4, 3, 1, 1
    )
    assert lab_to_rgb(lab).abs().max() > 1.1
    clipped, faded = lab_to_rgb(lab, "clip"), lab_to_rgb(lab, "fade")
    assert clipped.abs().max() <= 1
    assert faded.abs().max() <= 1
    back = rgb_to_lab(faded)
    assert (back[:, 0] - lab[:, 0]).abs().max() < 1
    assert (rgb_to_lab(clipped)[:, 0] - lab[:, 0]).abs().max() > 3
    hues = [torch.atan2(each[:2, 2], each[:2, 1]) for each in (back, lab)]
    assert (hues[0] - hues[1]).abs().max() < 0.05
    inside = rgb_to_lab(pictures(dtype=torch.float32))
    assert (lab_to_rgb(inside, "fade") - lab_to_rgb(inside)).abs().max() < 0.02


def test_half_precision_is_computed_in_float32():
    images = pictures(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = rgb_to_lab(images)
    assert torch.equal(inside, rgb_to_lab(images))
    assert rgb_to_lab(images.bfloat16()).dtype == torch.float32


def test_luma():
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    assert luma(red).item() * 255 == pytest.approx(16 + 65.481)
    assert luma(torch.ones(1, 1, 1, 1)).item() * 255 == pytest.approx(235)
    assert luma(-torch.ones(1, 3, 1, 1)).item() * 255 == pytest.approx(16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rgb_to_lab(x[:, :1]), r"images must be \(N, 3, H, W\), not \(2, 1, 9, 7\)"),
        (lambda x: lab_to_rgb(x, "cut"), "outside must be one of keep, clip, fade, not 'cut'"),
        (lambda x: delta_e(x, x[:1]), "both pictures must have the same shape"),
        (lambda x: delta_e(x, x, x > 0), r"region must have shape \(2, 1, 9, 7\), not \(2, 3, 9, 7\)"),
        (lambda x: delta_e(x, x, formula="cie94"), "formula must be one of ciede2000, cie76, not 'cie94'"),
    ],
)
def test_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(pictures())
