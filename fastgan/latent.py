"""Ways between latents, sums and directions of them, for a generator to draw, and the latent of a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.data.checks import check_shape, checked_images
from fastgan.data.pictures import to_float

MODES = ("spherical", "linear")
PARALLEL = 1e-6  # sine of the angle below which two directions are


@torch.no_grad()
def interpolate(a: Tensor, b: Tensor, steps: int, mode: str = "spherical") -> Tensor:
    """`steps` latents on the way from `a` to `b`, both of them included, exactly.

    a, b: (N, ...), N latents, or (Z,), one latent; floating point.   ->   (steps, *a.shape)
    mode: "spherical" turns the direction at an even pace and changes the norm evenly, so that the latents between are
    as likely as the ends (White, "Sampling Generative Networks", 2016; Shoemake, "Animating Rotation with Quaternion
    Curves", 1985); "linear" is the straight line. Where the directions are parallel, or one latent is 0, there is no
    sphere to follow, and spherical is linear too. No gradient goes through.

    Raises TypeError or ValueError where a and b do not match, steps < 2 or there is no such mode.
    """
    for name, latent in ("a", a), ("b", b):
        if not isinstance(latent, Tensor) or not latent.is_floating_point():
            given = latent.dtype if isinstance(latent, Tensor) else type(latent).__name__
            raise TypeError(f"{name} must be a floating-point tensor of latents, not {given}")
    if a.shape != b.shape or a.dim() == 0 or a.numel() == 0:
        raise ValueError(f"a and b must have one shape, (N, ...) or (Z,), not {tuple(a.shape)} and {tuple(b.shape)}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps must be a whole number of at least 2, not {steps!r}")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
    count = len(a) if a.dim() > 1 else 1
    start, end = (latent.reshape(count, -1).double() for latent in (a, b))
    t = torch.linspace(0, 1, steps, dtype=torch.float64, device=a.device)[:, None, None]
    between = torch.lerp(start, end, t) if mode == "linear" else _spherical(start, end, t)
    between = between.to(a.dtype).view(steps, *a.shape)
    between[0], between[-1] = a, b
    return between


def _spherical(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """start, end: (N, Z), t: (S, 1, 1) -> (S, N, Z)"""
    lengths = start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True)
    u, v = (latent / length for latent, length in zip((start, end), lengths))
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    sine = angle.sin()
    direction = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / sine
    curved = torch.lerp(*lengths, t) * direction
    # Not so for a latent of 0, whose angle is NaN.
    return torch.where(sine > PARALLEL, curved, torch.lerp(start, end, t))


def arithmetic(*terms: tuple[float, Tensor]) -> Tensor:
    """The sum of each term's sign, or weight, times the mean of its latents (Radford et al. 2016, section 6.3.2).

        arithmetic((1, smiling_women), (-1, neutral_women), (1, neutral_men))

    Each latents: (N, ...), N >= 1 of its own.   ->   (...)
    """
    if not terms:
        raise ValueError("latent arithmetic needs at least one term")
    shapes = [tuple(latents.shape) for _, latents in terms]
    if any(len(shape) < 2 or shape[0] == 0 for shape in shapes) or len({shape[1:] for shape in shapes}) > 1:
        raise ValueError(
            f"each term must be (N, ...) with N >= 1 latents of one shape, not {', '.join(map(str, shapes))}"
        )
    return torch.stack([weight * latents.mean(dim=0) for weight, latents in terms]).sum(dim=0)


def combine(expression: str, groups: Mapping[str, Tensor]) -> Tensor:
    """`arithmetic` of named groups of latents: combine("smiling woman - neutral woman + neutral man", groups).

    groups: latents (N, ...) by name; names hold neither + nor -.   ->   (...)

    ValueError for an expression that reads otherwise or a name that no group has.
    """
    terms = re.findall(r"([-+]?)([^-+]+)", expression)
    if not terms or "".join(sign + name for sign, name in terms) != expression or any(not s for s, _ in terms[1:]):
        raise ValueError(f"cannot read {expression!r}: write names of groups with + or - between them")
    unknown = [name.strip() for _, name in terms if name.strip() not in groups]
    if unknown:
        raise ValueError(f"no group {', '.join(map(repr, unknown))}; the groups are {', '.join(groups)}")
    return arithmetic(*((-1 if sign == "-" else 1, groups[name.strip()]) for sign, name in terms))


def directions(latents: Tensor, labels: Tensor) -> dict[int, Tensor]:
    """Of each label the way to more of it: the mean of its latents less that of all others', as a unit vector.

    latents: (N, ...) of samples.   labels: (N,) integers or bools, what the samples show, by eye or by a classifier
    such as `fastgan.metrics.Classifier`.   ->   {label: (...)}

        latents[0] + 3 * directions(latents, labels)[1]

    (The attribute vectors of Larsen, Sonderby, Larochelle, Winther, "Autoencoding beyond pixels", 2016.)

    ValueError where there are fewer than two labels.
    """
    if latents.dim() < 2 or labels.shape != latents.shape[:1]:
        raise ValueError(
            f"latents (N, ...) need as many labels (N,), not {tuple(latents.shape)} and {tuple(labels.shape)}"
        )
    found = labels.unique().tolist()
    if len(found) < 2:
        raise ValueError(f"a direction leads from one label to others: at least two are needed, not {found}")
    ways = {}
    for label in found:
        own = (labels == label).to(latents.device)
        way = (latents[own].double().mean(dim=0) - latents[~own].double().mean(dim=0)).to(latents.dtype)
        ways[int(label)] = way / way.norm().clamp_min(torch.finfo(way.dtype).tiny)
    return ways


class Projection(NamedTuple):
    """latent: (...), the best.   error: its mean squared error.   errors: (steps + 1, R), of each start over the steps.
    way: (steps + 1, ...), the latents of the start that came to the best."""

    latent: Tensor
    error: float
    errors: Tensor
    way: Tensor


def project(
    generate: Callable[[Tensor], Tensor], picture: Tensor, starts: Tensor, *, steps: int = 200, rate: float = 0.1
) -> Projection:
    """The latent whose image is nearest to `picture`: Adam from each of `starts`, mean squared error of pixels.

    generate: latents (R, ...) -> images (R, C, H, W), differentiable, of networks in eval mode.
    picture: (C, H, W), uint8 or floating point in [-1, 1].   starts: (R, ...) latents, R >= 1.
    steps: of Adam.   rate: its learning rate, which falls to 0 as a cosine.

    No gradient reaches the networks' parameters. (Abdal, Qin, Wonka, "Image2StyleGAN", 2019; Lipton, Tripathi, "Precise
    Recovery of Latent Vectors from Generative Adversarial Networks", 2017.)

    TypeError or ValueError for a picture of another dtype, range or shape than the images', or steps or rate that are
    not positive.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive integer, not {steps!r}")
    if not rate > 0:
        raise ValueError(f"rate must be a positive number, not {rate!r}")
    if starts.dim() < 2 or len(starts) == 0:
        raise ValueError(f"starts must be (R, ...) with R >= 1 latents, not shape {tuple(starts.shape)}")
    if not isinstance(picture, Tensor) or picture.dim() != 3:
        given = tuple(picture.shape) if isinstance(picture, Tensor) else type(picture).__name__
        raise ValueError(f"picture must be a tensor (C, H, W), not {given}")
    picture = to_float(checked_images(picture[None], "picture")[0]).to(starts.device)
    with torch.enable_grad():
        latents = starts.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        errors, ways = [], []
        for step in range(steps + 1):
            images = generate(latents)
            check_shape(picture.shape, images.shape[1:], "picture", "the generator's images")
            error = (images.float() - picture).square().flatten(1).mean(dim=1)
            errors.append(error.detach())
            ways.append(latents.detach().clone())
            if step < steps:
                (latents.grad,) = torch.autograd.grad(error.sum(), latents)
                optimizer.step()
                schedule.step()
    table = torch.stack(errors)
    if not table.isfinite().all():
        raise FloatingPointError("the error of the projection is not finite: try a smaller rate")
    place = int(table.argmin())
    step, best = divmod(place, table.shape[1])
    way = torch.stack([latent[best] for latent in ways[: step + 1]])
    way = torch.cat([way, way[-1:].expand(steps - step, *way.shape[1:])])
    return Projection(way[-1], table[step, best].item(), table, way)
