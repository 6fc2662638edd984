"""Ways between latents and sums of them, for a generator to draw. Pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

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
            raise TypeError(f"{name} must be a floating-point tensor of latents, got {given}")
    if a.shape != b.shape or a.dim() == 0 or a.numel() == 0:
        raise ValueError(f"a and b must have one shape, (N, ...) or (Z,), got {tuple(a.shape)} and {tuple(b.shape)}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps must be a whole number of at least 2, got {steps!r}")
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
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
            f"each term must be (N, ...) with N >= 1 latents of one shape, got {', '.join(map(str, shapes))}"
        )
    return torch.stack([weight * latents.mean(dim=0) for weight, latents in terms]).sum(dim=0)
