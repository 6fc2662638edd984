"""Losses of generative adversarial networks, on logits.

    NonSaturating, Minimax, LeastSquares, Hinge, Wasserstein, Relativistic   real against fake
    SemiSupervised, AuxiliaryClassifier                                      classes beside it
    BoundaryEquilibrium                                                      the discriminator is an autoencoder
    cycle, identity, feature_matching                                        between images, between features
    Perceptual                                                               between maps of a trained network
    r1, r2, gradient_penalty, dragan, Lazy                                   gradient penalties for the discriminator

A loss is an object with `.discriminator(real_logits, fake_logits)` and `.generator(fake_logits)`.
"""

from fastgan.losses.adversarial import (
    Adversarial,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    Wasserstein,
)
from fastgan.losses.boundary_equilibrium import BoundaryEquilibrium
from fastgan.losses.classes import AuxiliaryClassifier, SemiSupervised
from fastgan.losses.consistency import cycle, feature_matching, identity
from fastgan.losses.lazy import Lazy
from fastgan.losses.penalties import dragan, gradient_penalty, r1, r2
from fastgan.losses.perceptual import Perceptual

__all__ = [
    "Adversarial",
    "AuxiliaryClassifier",
    "BoundaryEquilibrium",
    "Hinge",
    "Lazy",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Perceptual",
    "Relativistic",
    "SemiSupervised",
    "Wasserstein",
    "cycle",
    "dragan",
    "feature_matching",
    "gradient_penalty",
    "identity",
    "r1",
    "r2",
]
