"""PairedCycleGAN: Chang, Lu, Yu, Finkelstein, "PairedCycleGAN: Asymmetric Style Transfer for Applying and Removing
Makeup", 2018."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.data.fields import Batch, Field, Images
from fastgan.fusion.paired import paired as both
from fastgan.losses import cycle
from fastgan.networks.makeup import MakeupGenerator
from fastgan.networks.patchgan import patchgan
from fastgan.nn import init
from fastgan.options import option
from fastgan.systems.base import Part, Phase
from fastgan.systems.patches import LOSSES, ResidualConfig, ResidualTranslator
from fastgan.systems.remedies import COPIES, HIDDEN, Remedy
from fastgan.systems.translator import Example

TARGET = "target"  # W(x, y)
REGIONS = ("lips", "lids", "cheeks")  # masks of what make-up may change
KNOWN = (TARGET, "bare", *REGIONS)
DOMAINS = {"apply": ("a", "b"), "remove": ("b", "a")}


@dataclass(frozen=True)
class PairedCycleGANConfig(ResidualConfig):
    """Weights of the paper, whose networks have the sizes of CycleGAN's here."""

    known: str = option(
        "",
        "what rows of the data have beside source and reference; target, the source made up as the reference is, is "
        "what the pair loss needs, and what the others tell is measured; none: two domains, a and b, and no pair loss",
        parts=KNOWN,
    )
    adversarial: float = option(0.1, "weight of each adversarial loss of the generators", least=0, on_resume="differs")
    adversarial_end: float = option(0.5, "what it becomes, linearly, in anneal steps", least=0, on_resume="differs")
    anneal: int = option(0, "steps; 0: it stays as it is", least=0, on_resume="differs")
    identity: float = option(1.0, "weight of |F(G(x, y)) - x|", least=0, on_resume="differs")
    style: float = option(1.0, "weight of |G(F(y), G(x, y)) - y|", least=0, on_resume="differs")
    loss: str = option("non_saturating", "of the discriminators and the generators", choices=tuple(LOSSES))


class State(NamedTuple):
    """Of N bare and N made-up faces of other people: (N, C, H, W) each."""

    bare: Tensor  # x
    worn: Tensor  # y
    target: Tensor | None  # W(x, y)
    applied: Tensor  # G(x, y), with the generator's graph
    removed: Tensor  # F(y), likewise


class PairedCycleGAN(ResidualTranslator):
    """The make-up of a reference applied to a face, and removed from one (Chang 2018).

    G(x, y) applies the make-up of y to x, F(y) removes it. Five losses, all with the weights of the configuration:
    adversarial ones of G (made up or not) and of F (bare or not); identity, |F(G(x, y)) - x|; style,
    |G(F(y), G(x, y)) - y|; and, where the data have W(x, y), x with the make-up of y, an adversarial one of pairs:
    (y, W(x, y)) is real, (y, G(x, y)) is not.
    """

    name: ClassVar[str] = "pairedcyclegan"
    Config: ClassVar[type] = PairedCycleGANConfig
    averaged: ClassVar[tuple[str, ...]] = ("applier", "remover")
    directions: ClassVar[Mapping[str, tuple[str, str]]] = {
        "apply": ("source", "reference"), "remove": ("reference", "source")
    }  # fmt: skip
    takes: ClassVar[Mapping[str, str]] = {"reference": "(N, C, H, W) in [-1, 1], a face whose make-up is applied"}
    paired: ClassVar[bool] = False
    trains_on: ClassVar[str] = "heads"
    against: ClassVar[Mapping[str, tuple[Remedy, ...]]] = {
        COPIES: (Remedy("a larger adversarial"), Remedy("a smaller identity")), HIDDEN: (Remedy("a smaller identity"),)
    }  # fmt: skip
    updates: Tensor  # () int64, of the generators

    @classmethod
    def options_for(cls, fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
        """As of every translator; `known`: what there is beside sources and references."""
        found = super().options_for(fields, given)
        known = ",".join(name for name in KNOWN if name in fields)
        if "known" not in given and {"source", "reference"} <= set(fields) and known:
            found["known"] = known
        return found

    def __init__(self, config: PairedCycleGANConfig) -> None:
        super().__init__(config)
        self.known = tuple(name for name in KNOWN if name in config.known.replace(" ", "").split(","))
        if not self.known:
            self.directions = DOMAINS  # type: ignore[misc]  # of this one
        channels, width = config.channels, config.discriminator_width or config.width
        self.applier, self.remover = (
            MakeupGenerator(config.width, config.residual, channels, reference, config.upsampling)
            for reference in (True, False)
        )
        self.discriminator_worn, self.discriminator_bare = (patchgan(channels, width, config.layers) for _ in range(2))
        if TARGET in self.known:
            self.discriminator_pair = patchgan(2 * channels, width, config.layers)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        init.dcgan(self)
        self.loss = LOSSES[config.loss]()

    def inputs(self) -> dict[str, Field]:
        _, height, width = self.image_shape
        others = {name: Images(1, height, width) if name in REGIONS else Images(*self.image_shape)
                  for name in self.known}  # fmt: skip
        return {**super().inputs(), **others}

    def phases(self) -> list[Phase]:
        discriminators = [self.discriminator_worn, self.discriminator_bare]
        if TARGET in self.known:
            discriminators.append(self.discriminator_pair)
        return [
            self.phase("discriminators", self.discriminators_loss, *discriminators),
            self.phase("generators", self.generators_loss, self.applier, self.remover),
        ]

    def prepare(self, batch: Batch) -> State:
        x, y = (batch[name] for name in self.directions["apply"])
        target = batch[TARGET] if TARGET in self.known else None
        return State(x, y, target, self.applier(x, y), self.remover(y))

    def discriminators_loss(self, state: State) -> Iterator[Part]:
        applied, removed = state.applied.detach(), state.removed.detach()
        yield self.judged("worn", state.worn, applied)
        yield self.judged("bare", state.bare, removed)
        if state.target is not None:
            yield self.judged("pair", *(torch.cat([state.worn, images], 1) for images in (state.target, applied)))

    def judged(self, name: str, real: Tensor, fake: Tensor) -> Part:
        """The loss of one discriminator."""
        discriminator = self.get_submodule(f"discriminator_{name}")
        logits = both(discriminator, self.augment(real), self.augment(fake))
        loss, logged = self.loss.discriminator_logged(*logits)
        return loss, {f"{key}_{name}": value for key, value in logged.items()}

    def generators_loss(self, state: State) -> Part:
        config, x, y = self.config, state.bare, state.worn
        fakes = {"worn": state.applied, "bare": state.removed}
        if state.target is not None:
            fakes["pair"] = torch.cat([y, state.applied], 1)
        total, logged = x.new_zeros(()), {}
        for name, fake in fakes.items():
            fooled, values = self.loss.generator_logged(self.get_submodule(f"discriminator_{name}")(self.augment(fake)))
            total = total + fooled
            logged[f"fake_{name}"] = values["fake"]
        total = self.weight() * total
        kept = {
            "identity": cycle(x, self.remover(state.applied), config.identity),
            "style": cycle(y, self.applier(state.removed, state.applied), config.style),
        }
        return total + sum(kept.values()), {**logged, **{name: value.detach() for name, value in kept.items()}}

    def weight(self) -> float | Tensor:
        """Of each adversarial loss in this update of the generators, which it counts."""
        config = self.config
        if not config.anneal:
            return config.adversarial
        share = (self.updates.to(self.dtype) / config.anneal).clamp(max=1)
        self.updates.add_(1)
        return config.adversarial + share * (config.adversarial_end - config.adversarial)

    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        """A reference of another size is resized to that of the pictures."""
        if self.way(direction) == "remove":
            return self.remover(images)
        reference = inputs["reference"]
        if reference.shape[2:] != images.shape[2:]:
            resized = F.interpolate(reference.float(), images.shape[2:], mode="bicubic", antialias=True)
            reference = resized.clamp(-1, 1).to(images.dtype)
        return self.applier(images, reference)

    def way_back(self, direction: str) -> str | None:
        """What was applied is removed; to apply it again needs a reference."""
        return "remove" if direction == "apply" else None

    def check(self, images: Tensor, direction: str, inputs: Mapping[str, Tensor]) -> None:
        super().check(images, direction, inputs)
        reference = inputs.get("reference")
        if reference is not None and reference.shape[1] != self.config.channels:
            raise ValueError(f"reference must have {self.config.channels} channels, not {reference.shape[1]}")

    def check_given(self, direction: str, names: Collection[str]) -> None:
        super().check_given(direction, names)
        if direction == "remove" and "reference" in names:
            raise ValueError(f"{self.name} takes no reference in direction remove: leave it out")
        if direction == "apply" and "reference" not in names:
            raise ValueError(f"{self.name} applies the make-up of a reference: give one, or take direction remove")

    def recording(self) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
        """Make-up applied."""
        _, inputs = super().recording()
        return self.applied, {**inputs, "reference": torch.zeros_like(inputs["images"])}

    def applied(self, images: Tensor, reference: Tensor) -> Tensor:
        """Of one size."""
        return self.applier(images, reference)

    def examples(self, batch: Batch, generator: torch.Generator, paired: bool | None = None) -> Iterator[Example]:
        """Both directions, with the truths that the data have, and make-up applied as seen on lips, lids and cheeks
        alone; and outside of the masks of these, where the truth is that nothing changes."""
        x, y = (batch[name] for name in self.directions["apply"])
        count = min(len(x), len(y))  # of domains there may be more of one
        applied = Example("apply", "apply", x[:count], batch.get(TARGET), {"reference": y[:count]})
        yield applied
        masks = {name: batch[name] for name in REGIONS if name in batch}
        for name, mask in masks.items():
            if applied.truth is not None:
                yield replace(applied, name=name, region=mask > 0, shown=False)
        if masks:
            outside = torch.stack([mask <= -1 for mask in masks.values()]).all(0)  # not even at their soft borders
            name = "outside" if len(masks) == len(REGIONS) else f"outside {', '.join(masks)}"
            yield replace(applied, name=name, truth=applied.images, region=outside, shown=False)
        yield Example("remove", "remove", y, batch.get("bare"))
