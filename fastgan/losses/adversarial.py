"""Losses of a discriminator that tells real from fake, and of its generator.

    loss = Hinge()
    loss.discriminator(real_logits, fake_logits).backward()
    loss.generator(fake_logits).backward()

All of them are called alike. Logits are floating-point tensors of any shape, the output of a discriminator without a
sigmoid; the result is a scalar, float32 (float64 for float64 logits), the mean over all logits. A list of tensors is
the logits of a discriminator of several scales: their losses are summed (Wang et al. 2018, arXiv:1711.11585). A tuple
is not, because discriminators of several heads return one.

`.discriminator_logged` and `.generator_logged` also return what is worth logging, as detached scalars that cost no
further pass: `real` and `fake`, the mean output D for the real and for the fake samples (the mean over the scales). D
is sigmoid(logit) for NonSaturating and Minimax, sigmoid(difference) for Relativistic, the logit itself for the others.

Labels. The discriminator's target is 1 for real samples and 0 for fake ones; with probability `label_flips` it is the
other one, then a 1 becomes 1 - `label_smoothing` (one-sided: Salimans et al. 2016, arXiv:1606.03498, section 3.4), then
`label_noise` * U(-1, 1) is added. `generator`: draws the random numbers of flips and noise.

TypeError for logits that are not floating-point, ValueError for empty ones, for settings out of range, and where logits
that a loss needs are missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastgan.losses.checks import number
from fastgan.ops import gan_loss

Logits = Tensor | list[Tensor]
Logged = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """What the losses of this file have in common: `fastgan.ops.gan_loss` of a kind. backend: auto, native or torch."""

    backend: str = "auto"

    kind: ClassVar[str]
    decides: ClassVar[bool] = True  # a logit is on the side of the real ones or of the fake
    compares: ClassVar[bool] = False  # real with fake logits: the generator's loss depends on both

    def discriminator(
        self, real_logits: Logits | None, fake_logits: Logits | None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """With None for one of them, the part of the other: the loss is their sum where it does not compare them. So
        the graph of one batch can be freed by `backward` before the other's is made."""
        return self.discriminator_logged(real_logits, fake_logits, generator=generator)[0]

    def generator(self, fake_logits: Logits, real_logits: Logits | None = None) -> Tensor:
        """`real_logits` has a part in the relativistic losses only; the others accept it, to be called alike."""
        return self.generator_logged(fake_logits, real_logits)[0]

    def discriminator_logged(
        self, real_logits: Logits | None, fake_logits: Logits | None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Logged]:
        """(loss, {"real": D(x), "fake": D(G(z)), "real_right": ..., "fake_right": ...}), of those that are given; the
        latter are the shares of logits on their right side of the decision, which Wasserstein's critic does not have.
        """
        settings = {"player": "discriminator", "generator": generator, **self._labels()}
        real, fake = (
            None if logits is None else _scales(logits, name)
            for logits, name in ((real_logits, "real_logits"), (fake_logits, "fake_logits"))
        )
        count = len(real or fake or [None])
        return self._sum(real or [None] * count, fake or [None] * count, settings)

    def generator_logged(self, fake_logits: Logits, real_logits: Logits | None = None) -> tuple[Tensor, Logged]:
        """(loss, {"fake": D(G(z))}), and "real" where real logits are given"""
        fake = _scales(fake_logits, "fake_logits")
        real: list[Any] = [None] * len(fake)
        if real_logits is not None:
            real = _scales(real_logits, "real_logits")
            if not self.compares:  # for the log alone: the backward pass stays away from the real images' graph
                real = [x.detach() if isinstance(x, Tensor) else x for x in real]
        return self._sum(real, fake, {"player": "generator"})

    def _op(self) -> str:
        return self.kind

    def _labels(self) -> dict[str, float]:
        return {}

    def _sum(self, real: list[Any], fake: list[Any], settings: dict[str, Any]) -> tuple[Tensor, Logged]:
        if len(real) != len(fake):
            raise ValueError(f"real_logits have {len(real)} scales and fake_logits {len(fake)}")
        scales = [gan_loss(r, f, kind=self._op(), backend=self.backend, **settings) for r, f in zip(real, fake)]
        loss, means = scales[0]
        for other in scales[1:]:
            loss, means = loss + other.loss, means + other.means
        means = means / len(scales) if len(scales) > 1 else means
        logged = {name: means[i] for i, name in enumerate(("real", "fake")) if (real, fake)[i][0] is not None}
        if settings["player"] == "discriminator" and self.decides:
            logged.update({f"{name}_right": means[2 + i] for i, name in enumerate(("real", "fake")) if name in logged})
        return loss, logged


@dataclass(frozen=True, kw_only=True)
class _WithLabels(Adversarial):
    label_smoothing: float = 0.0
    label_noise: float = 0.0
    label_flips: float = 0.0

    def __post_init__(self) -> None:
        number(self.label_smoothing, "label_smoothing", below=1)
        number(self.label_noise, "label_noise")
        number(self.label_flips, "label_flips", high=1)

    def _labels(self) -> dict[str, float]:
        names = ("label_smoothing", "label_noise", "label_flips")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class NonSaturating(_WithLabels):
    """Cross entropy with the non-saturating generator: Goodfellow et al. 2014 (arXiv:1406.2661), section 3.

    discriminator: -E log sigmoid(real) - E log(1 - sigmoid(fake))        generator: -E log sigmoid(fake)

    At equilibrium the discriminator's is log 4, the generator's log 2. Shapes, labels, errors: as the module says.
    """

    kind: ClassVar[str] = "non_saturating"


@dataclass(frozen=True, kw_only=True)
class Minimax(_WithLabels):
    """The two-player game as it is written: Goodfellow et al. 2014 (arXiv:1406.2661), equation 1.

    discriminator: -E log sigmoid(real) - E log(1 - sigmoid(fake))        generator: E log(1 - sigmoid(fake))

    The generator's gradient vanishes where the discriminator wins. Shapes, labels, errors: as the module says.
    """

    kind: ClassVar[str] = "minimax"


@dataclass(frozen=True, kw_only=True)
class LeastSquares(_WithLabels):
    """LSGAN with a = 0, b = c = 1: Mao et al. 2017 (arXiv:1611.04076), equation 9.

    discriminator: 1/2 E (real - 1)^2 + 1/2 E fake^2        generator: 1/2 E (fake - 1)^2

    Shapes, labels, errors: as the module says.
    """

    kind: ClassVar[str] = "least_squares"


@dataclass(frozen=True, kw_only=True)
class Hinge(_WithLabels):
    """Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957), equations 16 and 17.

    discriminator: E max(0, 1 - real) + E max(0, 1 + fake)        generator: -E fake

    Shapes, labels, errors: as the module says.
    """

    kind: ClassVar[str] = "hinge"


@dataclass(frozen=True, kw_only=True)
class Wasserstein(_WithLabels):
    """Arjovsky, Chintala, Bottou 2017 (arXiv:1701.07875), equations 2 and 3.

    discriminator: E fake - E real        generator: -E fake

    The critic must be Lipschitz: clip its weights, or add `gradient_penalty`. Shapes, labels, errors: as the module
    says.
    """

    kind: ClassVar[str] = "wasserstein"
    decides: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Relativistic(Adversarial):
    """How much more real than the other: Jolicoeur-Martineau 2018 (arXiv:1807.00734), sections 4.1 and 4.2.

    discriminator: E softplus(fake - real)        generator: E softplus(real - fake)

    Each real logit is paired with one fake logit, so both have the same shape: RpGAN, with `r1` and `r2` the loss of
    R3GAN (Huang et al. 2024, arXiv:2501.05441). With `average` each is compared with the mean of the others (RaGAN):

    discriminator: 1/2 [E softplus(E fake - real) + E softplus(fake - E real)]        generator: real and fake exchanged

    The generator's loss needs the real logits, and its gradient reaches them unless they are detached. No labels.
    Shapes, errors: as the module says; ValueError where shapes of pairs differ.
    """

    average: bool = False

    kind: ClassVar[str] = "relativistic"
    compares: ClassVar[bool] = True

    def _op(self) -> str:
        return "relativistic_average" if self.average else "relativistic"


def _scales(logits: Any, name: str) -> list[Any]:
    if isinstance(logits, Tensor):
        return [logits]
    if not isinstance(logits, list):
        raise TypeError(f"{name} must be a tensor, or a list of them (one for each scale), not {type(logits).__name__}")
    if not logits:
        raise ValueError(f"{name} is an empty list: no scale to judge")
    return logits
