"""Losses of a discriminator that also tells classes apart.

Rows of K class logits, floating-point (N, K); labels, int64 (N,) from 0 to K - 1. Losses are scalars, float32 (float64
for float64 logits). `backend`: auto, native or torch. TypeError for other dtypes, ValueError for other shapes and for
empty tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastgan.losses.adversarial import Adversarial, Logged, Logits, NonSaturating
from fastgan.losses.checks import number
from fastgan.ops import class_loss


@dataclass(frozen=True, kw_only=True)
class SemiSupervised:
    """Classes of real images from few labels: Salimans et al. 2016 (arXiv:1606.03498), section 5.

    The discriminator has K logits; the class of fakes has the logit 0, which loses nothing (their section 5). With
    Z = logsumexp of a row, D = sigmoid(Z) is the probability of a real image.

    discriminator: E cross_entropy(labelled) + 1/2 E softplus(-Z unlabelled) + 1/2 E softplus(Z fake)
    generator: E softplus(-Z fake), or, in the paper's semi-supervised results, `feature_matching`

    Shapes and errors: as the module says.
    """

    backend: str = "auto"

    def discriminator(
        self,
        real_logits: Tensor,  # (N, K)
        labels: Tensor,  # (N,) of real_logits
        unlabelled_logits: Tensor,  # (M, K) of real images
        fake_logits: Tensor,  # (L, K)
    ) -> Tensor:
        return self.discriminator_logged(real_logits, labels, unlabelled_logits, fake_logits)[0]

    def generator(self, fake_logits: Tensor) -> Tensor:
        return self.generator_logged(fake_logits)[0]

    def discriminator_logged(
        self, real_logits: Tensor, labels: Tensor, unlabelled_logits: Tensor, fake_logits: Tensor
    ) -> tuple[Tensor, Logged]:
        """(loss, {"accuracy": of the labelled, "real": D of the unlabelled, "fake": D(G(z))}), the latter detached"""
        _given(real_logits=real_logits, labels=labels, unlabelled_logits=unlabelled_logits, fake_logits=fake_logits)
        loss, means = class_loss(
            real_logits, labels, unlabelled_logits=unlabelled_logits, fake_logits=fake_logits, backend=self.backend
        )
        return loss, {"accuracy": means[0], "real": means[2], "fake": means[3]}

    def generator_logged(self, fake_logits: Tensor) -> tuple[Tensor, Logged]:
        """(loss, {"fake": D(G(z))}), the latter detached"""
        _given(fake_logits=fake_logits)
        loss, means = class_loss(fake_logits=fake_logits, player="generator", backend=self.backend)
        return loss, {"fake": means[3]}


@dataclass(frozen=True)
class AuxiliaryClassifier:
    """AC-GAN: Odena, Olah, Shlens 2017 (arXiv:1610.09585), section 4.

    discriminator: adversarial + weight [E cross_entropy(real classes) + E cross_entropy(fake classes)]
    generator: adversarial + weight E cross_entropy(fake classes)

    Two heads: `*_logits` tell real from fake and go to `adversarial`; `*_classes` are K class logits a row. The labels
    of fakes are those that they were made from. Without fake classes and labels the discriminator learns classes from
    real images alone.

    Shapes and errors: as the module says, and those of `adversarial`.
    """

    adversarial: Adversarial = field(default_factory=NonSaturating)
    weight: float = 1.0
    backend: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.adversarial, Adversarial):
            raise TypeError(
                "adversarial must be a loss such as NonSaturating(), "
                f"not {getattr(self.adversarial, '__name__', type(self.adversarial).__name__)}"
            )
        number(self.weight, "weight")

    def discriminator(
        self,
        real_logits: Logits,
        fake_logits: Logits,
        *,
        real_classes: Tensor,  # (N, K)
        real_labels: Tensor,  # (N,)
        fake_classes: Tensor | None = None,  # (M, K)
        fake_labels: Tensor | None = None,  # (M,)
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return self.discriminator_logged(
            real_logits, fake_logits, real_classes=real_classes, real_labels=real_labels, fake_classes=fake_classes,
            fake_labels=fake_labels, generator=generator,
        )[0]  # fmt: skip

    def generator(
        self,
        fake_logits: Logits,
        real_logits: Logits | None = None,
        *,
        fake_classes: Tensor,  # (M, K)
        fake_labels: Tensor,  # (M,)
    ) -> Tensor:
        """`real_logits`: as `adversarial` wants them."""
        return self.generator_logged(fake_logits, real_logits, fake_classes=fake_classes, fake_labels=fake_labels)[0]

    def discriminator_logged(
        self,
        real_logits: Logits,
        fake_logits: Logits,
        *,
        real_classes: Tensor,
        real_labels: Tensor,
        fake_classes: Tensor | None = None,
        fake_labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Logged]:
        """(loss, what `adversarial` logs, "real_accuracy" and, with fake classes, "fake_accuracy" of the classes)"""
        _given(real_classes=real_classes, real_labels=real_labels)
        if (fake_classes is None) is not (fake_labels is None):
            raise ValueError("fake_classes and fake_labels belong together: give both or neither")
        loss, logged = self.adversarial.discriminator_logged(real_logits, fake_logits, generator=generator)
        classes = self._classes(real_classes, real_labels, fake_classes, fake_labels, "discriminator")
        logged["real_accuracy"] = classes.means[0]
        if fake_classes is not None:
            logged["fake_accuracy"] = classes.means[1]
        return loss + self.weight * classes.loss, logged

    def generator_logged(
        self,
        fake_logits: Logits,
        real_logits: Logits | None = None,
        *,
        fake_classes: Tensor,
        fake_labels: Tensor,
    ) -> tuple[Tensor, Logged]:
        """(loss, what `adversarial` logs and "fake_accuracy" of the classes)"""
        _given(fake_classes=fake_classes, fake_labels=fake_labels)  # without labels another loss is meant
        loss, logged = self.adversarial.generator_logged(fake_logits, real_logits)
        classes = self._classes(None, None, fake_classes, fake_labels, "generator")
        logged["fake_accuracy"] = classes.means[1]
        return loss + self.weight * classes.loss, logged

    def _classes(self, real: Any, real_labels: Any, fake: Any, fake_labels: Any, player: str) -> Any:
        return class_loss(
            real, real_labels, fake_logits=fake, fake_labels=fake_labels, player=player, backend=self.backend
        )


def _given(**tensors: Any) -> None:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, not {type(tensor).__name__}")
