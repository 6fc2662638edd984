"""Colors: sRGB and CIELAB, how far two colors are apart, and luma.

    lab = rgb_to_lab(images)                       # L in [0, 100], a and b about [-100, 100]
    images = lab_to_rgb(lab, outside="fade")
    delta_e(made, truth)                           # (N,)

Pictures are (N, 3, H, W), sRGB (IEC 61966-2-1) in [-1, 1]; Lab is CIE 1976 with the white D65 of the 2 degree observer.
What is given in half precision is computed, and comes back, in float32, whatever autocast says. Everything is
elementwise and differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

# ITU-R BT.601, the weights of Y' for R', G', B': what JPEG and Pillow's convert("L") use.
LUMA = (0.299, 0.587, 0.114)

# XYZ of linear sRGB, back, and XYZ of the white.
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
TO_RGB: tuple[tuple[float, ...], ...] = tuple(map(tuple, torch.tensor(TO_XYZ, dtype=torch.float64).inverse().tolist()))
WHITE = (0.95047, 1.0, 1.08883)

OUTSIDE = ("keep", "clip", "fade")
FORMULAS = ("ciede2000", "cie76")
FADES = 10  # halvings of the share of its chroma that a color keeps


def rgb_to_lab(images: Tensor) -> Tensor:
    """(N, 3, H, W) sRGB in [-1, 1] -> the same shape: L, a, b.   ValueError for another shape."""
    values = (_three(images, "images") + 1) / 2
    linear = torch.where(
        values > 0.04045, ((values.clamp(min=0.04045) + 0.055) / 1.055).pow(2.4), values / 12.92
    )  # fmt: skip
    x, y, z = (_cube_root(mixed / white) for mixed, white in zip(_mixed(linear, TO_XYZ), WHITE))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(lab: Tensor, outside: str = "keep") -> Tensor:
    """The inverse of `rgb_to_lab`.

    outside: what becomes of colors that sRGB does not have. "keep": values beyond [-1, 1]. "clip": those are moved to
        the bounds, which changes lightness and hue. "fade": a and b are made smaller until the color is one of sRGB's,
        so that lightness and hue stay; not for training.
    ValueError for another shape or another `outside`.
    """
    if outside not in OUTSIDE:
        raise ValueError(f"outside must be one of {', '.join(OUTSIDE)}, not {outside!r}")
    lab = _three(lab, "lab")
    if outside == "fade":
        lab = _faded(lab)
    rgb = _rgb(lab)
    return rgb if outside == "keep" else rgb.clamp(-1, 1)


def delta_e(a: Tensor, b: Tensor, region: Tensor | None = None, formula: str = "ciede2000") -> Tensor:
    """How far the colors of two pictures are apart, in the mean over their pixels: (N, 3, H, W) each -> (N,)

    1 is about what one can see.   region: (N, 1, H, W) bool, the pixels that count; NaN for a picture without any.
    formula: see `difference`.   ValueError for other shapes.
    """
    values = difference(rgb_to_lab(a), rgb_to_lab(b), formula)
    if region is None:
        return values.mean((1, 2, 3))
    if region.shape != values.shape:
        raise ValueError(f"region must have shape {tuple(values.shape)}, not {tuple(region.shape)}")
    counts = region.to(values.dtype)
    return (values * counts).sum((1, 2, 3)) / counts.sum((1, 2, 3))


def difference(lab: Tensor, other: Tensor, formula: str = "ciede2000") -> Tensor:
    """Delta E of each pixel: (N, 3, H, W) in Lab each -> (N, 1, H, W)

    formula: "ciede2000" (CIE 142-2001, as written out by Sharma, Wu, Dalal, "The CIEDE2000 Color-Difference Formula",
        2005), or "cie76", the Euclidean distance.
    ValueError for shapes that differ and for another formula.
    """
    if formula not in FORMULAS:
        raise ValueError(f"formula must be one of {', '.join(FORMULAS)}, not {formula!r}")
    lab, other = _three(lab, "lab"), _three(other, "other")
    if lab.shape != other.shape:
        raise ValueError(f"both pictures must have the same shape, not {tuple(lab.shape)} and {tuple(other.shape)}")
    values = _root((lab - other).square().sum(1)) if formula == "cie76" else _ciede2000(lab.unbind(1), other.unbind(1))
    return values.unsqueeze(1)


def luma(images: Tensor) -> Tensor:
    """Y' of ITU-R BT.601 with 16 to 235 of 255 levels, which the PSNR of super-resolution is measured on (as Matlab's
    rgb2ycbcr): (N, 3 or 1, H, W) in [-1, 1] -> (N, 1, H, W) in [16/255, 235/255]. ValueError for another shape."""
    if images.dim() == 4 and images.shape[1] == 1:
        gray = (images.to(torch.promote_types(images.dtype, torch.float32)) + 1) / 2
    else:
        red, green, blue = ((_three(images, "images") + 1) / 2).split(1, 1)
        gray = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return (16 + 219 * gray) / 255


def _three(values: Tensor, name: str) -> Tensor:
    """`values`, at least in float32, if they have the shape of a picture in colors."""
    if values.dim() != 4 or len(values.unbind(1)) != 3:  # not shape[1], which is no number within torch.jit.trace
        raise ValueError(f"{name} must be (N, 3, H, W), not {tuple(values.shape)}")
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _mixed(values: Tensor, weights: tuple[tuple[float, ...], ...]) -> list[Tensor]:
    # Sums of single terms: a product of matrices would be computed in half precision by autocast.
    first, second, third = values.unbind(1)
    return [a * first + b * second + c * third for a, b, c in weights]


def _cube_root(ratio: Tensor) -> Tensor:
    """The function f of CIELAB: a cube root that is a line near 0."""
    return torch.where(ratio > 0.008856, ratio.clamp(min=0.008856).pow(1 / 3), 7.787 * ratio + 16 / 116)


def _rgb(lab: Tensor) -> Tensor:
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    roots = y + a / 500, y, y - b / 200
    xyz = [
        white * torch.where(root > 0.2068966, root.pow(3), (root - 16 / 116) / 7.787)
        for root, white in zip(roots, WHITE)
    ]
    linear = torch.stack(_mixed(torch.stack(xyz, 1), TO_RGB), 1)
    values = torch.where(
        linear > 0.0031308, 1.055 * linear.clamp(min=0.0031308).pow(1 / 2.4) - 0.055, 12.92 * linear
    )  # fmt: skip
    return values * 2 - 1


def _faded(lab: Tensor) -> Tensor:
    """The same lightness and hue, with as much of the chroma as sRGB has."""
    lightness, ab = lab.split((1, 2), 1)
    ab = ab / (ab.abs().amax(1, keepdim=True) / 200).clamp(min=1)  # sRGB has nothing beyond
    inside = _inside(lab)
    low, high = inside.to(lab.dtype), torch.ones_like(lightness)
    for _ in range(FADES):
        middle = (low + high) / 2
        inside = _inside(torch.cat([lightness, ab * middle], 1))
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return torch.cat([lightness, ab * low], 1)


def _inside(lab: Tensor) -> Tensor:
    """(N, 1, H, W) bool: sRGB has the color, but for less than half a level of 8 bits."""
    return (_rgb(lab).abs() <= 1 + 1 / 255).all(1, keepdim=True)


def _root(square: Tensor) -> Tensor:
    """A root whose derivative at 0 is 0."""
    return torch.where(square > 0, square, 1).sqrt() * (square > 0)


def _angle(y: Tensor, x: Tensor) -> Tensor:
    """Of the point (x, y), in radians from 0 to 2 pi; 0 at the origin, where its derivative is 0, too."""
    away = (x != 0) | (y != 0)
    return torch.atan2(torch.where(away, y, 0), torch.where(away, x, 1)) % (2 * torch.pi)


def _ciede2000(lab: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> Tensor:
    """Equations 2 to 22 of Sharma et al. L, a, b of each, of one shape -> their Delta E"""
    (l1, a1, b1), (l2, a2, b2) = lab, other
    mean = (_root(a1.square() + b1.square()) + _root(a2.square() + b2.square())) / 2
    stretched = 1 + 0.5 * (1 - _seventh(mean))
    a1, a2 = stretched * a1, stretched * a2
    c1, c2 = _root(a1.square() + b1.square()), _root(a2.square() + b2.square())
    h1, h2 = _angle(b1, a1), _angle(b2, a2)
    hued = (c1 * c2) > 0  # a gray has no hue
    turn = h2 - h1
    turn = turn - 2 * torch.pi * (turn > torch.pi) + 2 * torch.pi * (turn < -torch.pi)
    lightness, chroma = l2 - l1, c2 - c1
    hue = torch.where(hued, 2 * _root(c1 * c2) * (turn / 2).sin(), 0)

    l_mean, c_mean = (l1 + l2) / 2, (c1 + c2) / 2
    between = (h1 + h2) / 2
    opposite = (h1 - h2).abs() > torch.pi
    between = between + torch.pi * (opposite & (between < torch.pi)) - torch.pi * (opposite & (between >= torch.pi))
    h_mean = torch.where(hued, between, h1 + h2)
    degree = torch.pi / 180
    t = (
        1
        - 0.17 * (h_mean - 30 * degree).cos()
        + 0.24 * (2 * h_mean).cos()
        + 0.32 * (3 * h_mean + 6 * degree).cos()
        - 0.20 * (4 * h_mean - 63 * degree).cos()
    )
    around = (-((h_mean / degree - 275) / 25).square()).exp()  # of blue, whose hues are turned
    away = (l_mean - 50).square()
    lightness = lightness / (1 + 0.015 * away / (20 + away).sqrt())
    chroma = chroma / (1 + 0.045 * c_mean)
    hue = hue / (1 + 0.015 * c_mean * t)
    turned = -(60 * degree * around).sin() * 2 * _seventh(c_mean)
    return _root((lightness.square() + chroma.square() + hue.square() + turned * chroma * hue).clamp(min=0))


def _seventh(chroma: Tensor) -> Tensor:
    """sqrt(C^7 / (C^7 + 25^7))"""
    power = (chroma / 25).pow(7)
    return _root(power / (power + 1))
