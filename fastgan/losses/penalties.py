"""Penalties on the gradient of a discriminator with respect to its images, to be added to its loss.

`discriminator` is any callable from images, (N, *) of rank >= 2, to one tensor of logits of any shape:

    r1(discriminator, real)                                            gradient_penalty(critic, real, fake)
    r1(lambda images: discriminator(images, labels), real)             a conditional one
    r1(lambda images: discriminator(images)[0], real)                  one with several results

Each penalty calls it once on images of its own, cut from whatever graph the given ones have; the arguments are not
changed. The gradient of a sample is that of the sum of all logits, as in the authors' code: a sample's logits, where
it has many (patches), count together. Batch normalisation makes each logit depend on every sample and its running
statistics move once more; WGAN-GP's authors advise against it.

float16 and bfloat16: the norm of the gradient, and all after it, is float32. Under autocast the discriminator runs as
autocast has it, on float32 images; for a discriminator in float32 too, call the penalty inside
`torch.autocast(device_type, enabled=False)`.

In distributed training a penalty is the mean over this process's samples; DistributedDataParallel averages the
gradients over the processes, as it does for every loss.

Every penalty raises TypeError for integers and for a discriminator that does not return one floating-point tensor,
ValueError for empty images, wrong shapes or numbers, and RuntimeError where no derivative can be had: without grad
mode, or from a discriminator that detaches or ignores its images or whose gradient is a constant to autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan.losses.checks import alike, at_least_float32, floating, number
from fastgan.random import current

Discriminator = Callable[[Tensor], Tensor]


def r1(discriminator: Discriminator, real: Tensor, gamma: float = 10.0) -> Tensor:
    """gamma/2 E |grad D(x)|^2 over real images: Mescheder, Geiger, Nowozin 2018 (arXiv:1801.04406), equation 9.

    real: (N, *)   ->   scalar, float32 (float64 for float64 images). Errors: as the module says.
    """
    return _squared_norm(discriminator, real, "real", gamma)


def r2(discriminator: Discriminator, fake: Tensor, gamma: float = 10.0) -> Tensor:
    """gamma/2 E |grad D(x)|^2 over generated images: Mescheder, Geiger, Nowozin 2018 (arXiv:1801.04406), equation 10.

    fake: (N, *); nothing reaches the generator that made them   ->   scalar, float32 (float64 for float64 images).
    Errors: as the module says.
    """
    return _squared_norm(discriminator, fake, "fake", gamma)


def gradient_penalty(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    weight: float = 10.0,
    target: float = 1.0,
    *,
    one_sided: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """weight E (|grad D(x)| - target)^2 between real and generated images: Gulrajani et al. 2017 (arXiv:1704.00028).

    x = u real + (1 - u) fake with one u ~ U(0, 1) for each sample. `one_sided`: only norms above the target count
    (their section 4). target=0 is the zero-centred penalty of Thanh-Tung et al. 2019 (arXiv:1902.03984).

    real, fake: (N, *) of one shape   ->   scalar, float32 (float64 for float64 images). `generator` draws u, on its own
    device. Errors: as the module says.
    """
    number(weight, "weight")
    number(target, "target")
    alike(_images(real, "real"), "real", fake, "fake")
    dtype = torch.promote_types(real.dtype, fake.dtype)
    share = _random(torch.rand, (len(real), *[1] * (real.dim() - 1)), real, generator)
    mixed = torch.lerp(fake.detach().to(share.dtype), real.detach().to(share.dtype), share)
    return _distance_to_target(discriminator, mixed.to(dtype), "real", weight, target, one_sided)


def dragan(
    discriminator: Discriminator,
    real: Tensor,
    weight: float = 10.0,
    *,
    noise: float = 0.5,
    target: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """weight E (|grad D(x)| - target)^2 around real images: Kodali, Abernethy, Hays, Kira 2017 (arXiv:1705.07215).

    x = real + noise * std(real) * n with n ~ N(0, 1) for each value; std is that of all values of the batch. The normal
    distribution is the paper's, its scale the authors' code's, which draws from a uniform one and goes a random part
    of the way there.

    real: (N, *)   ->   scalar, float32 (float64 for float64 images). `generator` draws n, on its own device. Errors: as
    the module says.
    """
    number(weight, "weight")
    number(noise, "noise")
    number(target, "target")
    exact = at_least_float32(_images(real, "real").detach())
    around = exact + noise * exact.std(correction=0) * _random(torch.randn, real.shape, real, generator)
    return _distance_to_target(discriminator, around.to(real.dtype), "real", weight, target, one_sided=False)


def _squared_norm(discriminator: Discriminator, images: Tensor, name: str, gamma: float) -> Tensor:
    number(gamma, "gamma")
    gradient = _gradient(discriminator, images, name)
    return gamma / 2 * gradient.square().sum(tuple(range(1, gradient.dim()))).mean()


def _distance_to_target(
    discriminator: Discriminator, images: Tensor, name: str, weight: float, target: float, one_sided: bool
) -> Tensor:
    gradient = _gradient(discriminator, images, name)
    # Where the gradient is zero this norm has the derivative zero; that of the root of a sum of squares is NaN.
    distance = torch.linalg.vector_norm(gradient, dim=tuple(range(1, gradient.dim()))) - target
    return weight * (distance.relu() if one_sided else distance).square().mean()


def _gradient(discriminator: Discriminator, images: Tensor, name: str) -> Tensor:
    """Of the sum of all logits with respect to the images: (N, *), at least float32, itself differentiable."""
    if not torch.is_grad_enabled():  # so too in inference mode
        raise RuntimeError("a gradient penalty needs grad mode: call it outside torch.no_grad() and inference_mode()")
    images = _images(images, name).detach()  # a tensor of our own over the same memory
    if images.is_inference():
        images = images.clone()
    device = images.device.type
    if torch.is_autocast_enabled(device):  # the generator's are bfloat16 there; the gradient has the images' dtype
        images = at_least_float32(images)
    logits = _logits(discriminator(images.requires_grad_()))
    with torch.autocast(device, enabled=False):  # a backward pass has the dtypes of its forward pass
        (gradient,) = torch.autograd.grad(
            logits, images, torch.ones_like(logits), create_graph=True, allow_unused=True
        )  # fmt: skip
    if gradient is None:
        raise RuntimeError(
            "the discriminator's logits do not depend on the images that it was given: it ignores or detaches them, "
            "or the callable hands it others"
        )
    if not gradient.requires_grad:
        raise RuntimeError(
            "the gradient of the discriminator is a constant to autograd, so the penalty would train nothing: no "
            "parameter of it requires grad, or one of its operations cannot be differentiated twice"
        )
    return at_least_float32(gradient)


def _images(images: Any, name: str) -> Tensor:
    if floating(images, name).dim() < 2:
        raise ValueError(f"{name} must have shape (N, *) with rank >= 2, not {tuple(images.shape)}")
    return images


def _logits(logits: Any) -> Tensor:
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"the discriminator must return one tensor of logits, not {type(logits).__name__}; pick one with "
            "`lambda images: discriminator(images)[0]`"
        )
    floating(logits, "what the discriminator returned")
    if not logits.requires_grad:
        raise RuntimeError(
            "the discriminator's logits do not require grad although the images do: it runs without grad mode or "
            "detaches what it returns"
        )
    return logits


def _random(draw: Callable[..., Tensor], shape: Any, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random numbers, at least float32, on the device of `like`; drawn where the generator lives."""
    generator = generator or current(like.device)
    device = like.device if generator is None else generator.device
    dtype = torch.promote_types(like.dtype, torch.float32)
    return draw(shape, generator=generator, device=device, dtype=dtype).to(like.device)
