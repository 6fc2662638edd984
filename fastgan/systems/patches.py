"""Translators that discriminators of patches judge: what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from fastgan.data.fields import Field
from fastgan.losses import Adversarial, Hinge, LeastSquares, NonSaturating
from fastgan.nn import DifferentiableAugment
from fastgan.options import option
from fastgan.options.groups import Adam, Augmentation, Decay, Translation, Upsampling
from fastgan.systems import remedies
from fastgan.systems.adversarial import rate_at
from fastgan.systems.base import Loss, Phase, adam
from fastgan.systems.quick import AUGMENT, FEW, Preset
from fastgan.systems.remedies import Remedy
from fastgan.systems.translator import Translator

LOSSES: dict[str, type[Adversarial]] = {loss.kind: loss for loss in (NonSaturating, LeastSquares, Hinge)}
EPOCHS = 200  # of pix2pix and CycleGAN
REMEDIES = {
    remedies.STRONG: (remedies.AUGMENT, Remedy("a smaller discriminator_width", anew=True)),
    remedies.VANISHING: (remedies.AUGMENT, Remedy("a smaller discriminator_width", anew=True)),
    remedies.FOOLED: (remedies.SLOWER,),
    remedies.OSCILLATION: (remedies.SLOWER, Remedy("decay=linear with decay_steps=N")),
    remedies.UNEVEN: (
        remedies.AUGMENT,
        Remedy("as many and as varied pictures of both domains", anew=True),
        Remedy("a smaller discriminator_width", anew=True),
    ),
}


@dataclass(frozen=True)
class PatchConfig(Upsampling, Decay, Augmentation, Adam, Translation):
    """The families of options that such a translator has."""


class PatchTranslator(Translator):
    """Its networks are trained by Adam; its discriminators may see augmented pictures.

    against: remedies of its own, by symptom.
    """

    against: ClassVar[Mapping[str, tuple[Remedy, ...]]] = {}

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.augment = DifferentiableAugment(config.augment)

    @classmethod
    def paper(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        """One picture a step, cut out of one that is larger by 30 pixels of 256, and mirrored; rates that fall to 0 in
        the second half, as in the authors' code in PyTorch."""
        side = cls.options_for(fields, {}).get("resolution", 256)
        settings = {"batch_size": 1, "flip": True, "jitter": side * 30 // 256}
        total = steps or EPOCHS * (rows or 0)
        return Preset(falling(total), {**settings, "steps": total}) if total else Preset({}, settings)

    def change(self, **given: Any) -> None:
        super().change(**given)
        self.augment = DifferentiableAugment(self.config.augment).train(self.training)

    def remedies(self, symptom: str) -> list[Remedy]:
        return [*self.against.get(symptom, ()), *REMEDIES.get(symptom, ())]

    def phase(self, name: str, loss: Loss, *networks: nn.Module) -> Phase:
        """Of one optimizer over all these networks."""
        config = self.config
        rate: Callable[[int], float] | None = partial(rate_at, config) if config.decay != "none" else None
        return Phase(name, networks, loss, adam(nn.ModuleList(networks), config.learning_rate, config.betas), rate=rate)


def falling(steps: int) -> dict[str, Any]:
    """Options of learning rates that fall to 0 in the second half of so many steps."""
    return {"decay": "linear", "decay_from": steps // 2, "decay_steps": steps - steps // 2}


@dataclass(frozen=True)
class ResidualConfig(PatchConfig):
    """Of generators with residual blocks between two halvings and two doublings."""

    resolution: int = option(256, "pixels a side", multiple=4, least=8)
    blocks: int | None = option(None, "residual ones in a generator; none: 9 from 256 pixels on, else 6", least=0)

    @property
    def residual(self) -> int:
        """The number of blocks."""
        return self.blocks if self.blocks is not None else (9 if self.resolution >= 256 else 6)


class ResidualTranslator(PatchTranslator):
    """Its generators have residual blocks, as CycleGAN's."""

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        options = {
            "resolution": 64, "width": 16, "discriminator_width": 16, "blocks": 3, "layers": 2, "upsampling": "resize",
        }  # fmt: skip
        few = {"augment": AUGMENT} if (rows or FEW) < FEW else {}
        return Preset({**options, **few}, {"batch_size": 4, "flip": True, "jitter": 6})

    @property
    def multiple(self) -> int:
        return 4

    @property
    def least(self) -> int:
        return 8  # of which two pixels are left, at whose borders the residual blocks reflect
