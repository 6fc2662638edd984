"""Losses between images, or between features, that no discriminator judges."""

from __future__ import annotations

import torch
from torch import Tensor

from fastgan.losses.checks import alike, at_least_float32, floating, number


def cycle(images: Tensor, restored: Tensor, weight: float = 10.0) -> Tensor:
    """weight * mean |restored - images|, restored = F(G(images)): Zhu et al. 2017 (arXiv:1703.10593), equation 2.

    Two tensors of one shape   ->   scalar, float32 (float64 for float64). TypeError for integers, ValueError for empty
    tensors, different shapes or a negative weight.
    """
    return _l1(images, "images", restored, "restored", weight)


def identity(images: Tensor, mapped: Tensor, weight: float = 5.0) -> Tensor:
    """weight * mean |mapped - images|, mapped = G(images) for images of the domain that G maps to: Zhu et al. 2017
    (arXiv:1703.10593), section 5.2, whose weight is half that of `cycle`.

    Two tensors of one shape   ->   scalar, float32 (float64 for float64). TypeError for integers, ValueError for empty
    tensors, different shapes or a negative weight.
    """
    return _l1(images, "images", mapped, "mapped", weight)


def feature_matching(real_features: Tensor, fake_features: Tensor, squared: bool = False) -> Tensor:
    """mean |E f(x) - E f(G(z))| over the features, or with `squared` the mean of the squares; E is the mean over the
    batch: Salimans et al. 2016 (arXiv:1606.03498), section 3.1.

    A loss of the generator; f is a layer of the discriminator. The paper writes the sum of the squares; its code takes
    the mean, of the squares for MNIST and of the absolute values for CIFAR-10 and SVHN.

    real_features: (N, *), fake_features: (M, *), alike but for the batch   ->   scalar, float32 (float64 for float64).
    TypeError for integers, ValueError for empty tensors and for features of different shapes.
    """
    floating(real_features, "real_features")
    floating(fake_features, "fake_features")
    shapes = tuple(real_features.shape), tuple(fake_features.shape)
    if not shapes[0] or not shapes[1] or shapes[0][1:] != shapes[1][1:]:
        raise ValueError(
            f"real_features and fake_features must have the same shape but for the batch, not {shapes[0]} and "
            f"{shapes[1]}"
        )
    difference = at_least_float32(real_features).mean(0) - at_least_float32(fake_features).mean(0)
    return (difference.square() if squared else difference.abs()).mean()


def _l1(images: Tensor, name: str, others: Tensor, others_name: str, weight: float) -> Tensor:
    number(weight, "weight")
    alike(images, name, others, others_name)
    return weight * torch.nn.functional.l1_loss(at_least_float32(others), at_least_float32(images))
