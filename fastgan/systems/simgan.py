"""SimGAN: Shrivastava, Pfister, Tuzel, Susskind, Wang, Webb, "Learning from Simulated and Unsupervised Images through
Adversarial Training", 2017."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fastgan.data.fields import Batch, Field, Images
from fastgan.distributed import mean_of_processes
from fastgan.fusion.paired import paired
from fastgan.losses import NonSaturating
from fastgan.networks.refiner import Refiner, local_discriminator
from fastgan.nn import init
from fastgan.options import Options, option
from fastgan.systems.base import Part, Phase, adam
from fastgan.systems.pool import ImagePool
from fastgan.systems.quick import Preset
from fastgan.systems.translator import Translator

LARGEST = 64  # pixels a side that the options which follow from the data ask for
SPAN = 200  # updates of the discriminator that `convergence` is a mean over


@dataclass(frozen=True)
class SimGANConfig(Options):
    """Defaults of the paper, whose batches are of 512 pictures; it does not say the weight of the
    self-regularization, which is that of the best known implementation."""

    resolution: int = option(32, "pixels a side; of the pictures that it refines later: any", least=8)
    channels: int = option(1, "of an image", least=1)
    width: int = option(64, "channels of the refiner", least=1)
    blocks: int = option(4, "residual blocks of the refiner", least=1)
    discriminator_width: int = option(96, "channels of its first layer", least=1)
    regularization: float = option(
        0.5, "lambda: weight of how far, in L1, a picture is changed, summed over its pixels", least=0,
        on_resume="differs",
    )  # fmt: skip
    pretraining: int = option(1000, "steps of the refiner by its self-regularization alone", least=0)
    discriminator_pretraining: int = option(200, "steps of the discriminator alone, after those", least=0)
    refiner_steps: int = option(2, "K_g: its updates a step, each on pictures of its own", least=1)
    discriminator_steps: int = option(1, "K_d: its updates a step, likewise", least=1)
    history: int = option(25_600, "refined pictures of before, half of what the discriminator sees; 0: none", least=0)
    optimizer: str = option("sgd", "of both networks", choices=("sgd", "adam"))
    learning_rate: float = option(1e-3, "of both networks", above=0, on_resume="differs", flag="--lr")
    clip_gradients: float = option(
        0.0, "the most that the norm of a network's gradient may be; 0: anything", least=0, on_resume="differs"
    )


class State(NamedTuple):
    """Of a step with batches of N pictures."""

    simulated: Tensor  # ((K_g + K_d) * N, C, H, W): of each update, the refiner's first
    real: Tensor  # (K_d * N, C, H, W)


class SimGAN(Translator):
    """Simulated pictures refined to look real, their labels kept (Shrivastava 2017).

    L_R = sum over patches of -log P(real | R(x)) + lambda ||R(x) - x||_1
    L_D = sum over patches of -log P(refined | R(x)) and of -log P(real | y)

    Means over the pictures x, simulated, and y, real. The first steps train the refiner by the second part of L_R
    alone, then the discriminator alone, then each is updated K_g and K_d times a step, as in algorithm 1.
    """

    name: ClassVar[str] = "simgan"
    Config: ClassVar[type] = SimGANConfig
    averaged: ClassVar[tuple[str, ...]] = ("refiner",)
    directions: ClassVar[Mapping[str, tuple[str, str]]] = {"refine": ("a", "b")}
    paired: ClassVar[bool] = False
    trains_on: ClassVar[str] = "printed=>mnist"
    measured: Tensor  # () the mean of what `convergence` says
    updates: Tensor  # () int64, that it is the mean of, at most SPAN

    def __init__(self, config: SimGANConfig) -> None:
        super().__init__(config)
        self.batches = config.refiner_steps + config.discriminator_steps
        self.refiner = Refiner(config.channels, config.width, config.blocks)
        self.discriminator = local_discriminator(config.channels, config.discriminator_width)
        self.history = ImagePool(config.history, self.image_shape, share=0.5)
        self.register_buffer("measured", torch.zeros(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.loss = NonSaturating()
        init.xavier(self)

    @classmethod
    def options_for(cls, fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
        """`channels` as of every translator; `resolution`: the shortest side, 64 at most, as details count."""
        found = super().options_for(fields, given)
        if "resolution" in found:
            sides = [min(field.height, field.width) for field in fields.values() if isinstance(field, Images)]
            found["resolution"] = min(*sides, LARGEST)
        return found

    @classmethod
    def quick(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        options = {
            "width": 32, "blocks": 3, "discriminator_width": 48, "pretraining": 100, "discriminator_pretraining": 50,
            "history": 3200, "optimizer": "adam",
        }  # fmt: skip
        return Preset(options, {})

    @classmethod
    def paper(cls, fields: Mapping[str, Field], rows: int | None, steps: int | None) -> Preset:
        return Preset({}, {"batch_size": 512})

    @property
    def halo(self) -> int:
        return self.refiner.halo

    def phases(self) -> list[Phase]:
        config = self.config
        refined = config.pretraining  # the number of the step after which it only is
        ready = refined + config.discriminator_pretraining
        clip = config.clip_gradients
        refiner, discriminator = self.optimizer(self.refiner), self.optimizer(self.discriminator)

        def refiner_phase(loss: Any, when: Any) -> Phase:
            return Phase("refiner", (self.refiner,), loss, refiner, clip, when=when)

        def discriminator_phase(loss: Any, when: Any) -> Phase:
            return Phase("discriminator", (self.discriminator,), loss, discriminator, clip, when=when)

        return [
            refiner_phase(self.regularization_loss, lambda step: step < refined),
            *(
                refiner_phase(partial(self.refiner_loss, part=part), lambda step: step >= ready)
                for part in range(config.refiner_steps)
            ),
            *(
                discriminator_phase(partial(self.discriminator_loss, part=part), lambda step: refined <= step < ready)
                for part in range(config.discriminator_steps)
            ),
            *(
                discriminator_phase(
                    partial(self.discriminator_loss, part=part, measures=True), lambda step: step >= ready
                )
                for part in range(config.discriminator_steps)
            ),
        ]

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        if self.config.optimizer == "adam":
            return adam(network, self.config.learning_rate, (0.9, 0.999))
        return torch.optim.SGD(network.parameters(), lr=self.config.learning_rate)

    def prepare(self, batch: Batch) -> State:
        count, left = divmod(len(batch.a), self.batches)
        if left or not count:
            raise ValueError(f"a step takes {self.batches} batches of one size, put together, not {len(batch.a)} rows")
        return State(batch.a, batch.b[: count * self.config.discriminator_steps])

    def part(self, images: Tensor, number: int) -> Tensor:
        """(N, C, H, W): those of the update of that number."""
        count = len(images) // self.batches
        return images[number * count : (number + 1) * count]

    def regularization_loss(self, state: State) -> Part:
        simulated = self.part(state.simulated, 0)
        change = changed(self.refiner(simulated), simulated)
        return self.config.regularization * change, {"change": change.detach()}

    def refiner_loss(self, state: State, part: int) -> Part:
        simulated = self.part(state.simulated, part)
        refined = self.refiner(simulated)
        logits = odds(self.discriminator(refined))
        adversarial, logged = self.loss.generator_logged(logits)
        change = changed(refined, simulated)
        total = patches(logits) * adversarial + self.config.regularization * change
        return total, {**logged, "change": change.detach()}

    def discriminator_loss(self, state: State, part: int, measures: bool = False) -> Part:
        simulated = self.part(state.simulated, self.config.refiner_steps + part)
        count = len(simulated)
        with torch.no_grad():
            refined = self.refiner(simulated)
        real = state.real[part * count : (part + 1) * count]
        on_real, on_refined = map(odds, paired(self.discriminator, real, self.history(refined)))
        loss, logged = self.loss.discriminator_logged(on_real, on_refined)
        if measures:
            self.measure(loss.detach(), changed(refined, simulated) / patches(on_real))
            logged = {**logged, "convergence": self.measured.clone()}
        return patches(on_real) * loss, logged

    @torch.no_grad()
    def measure(self, loss: Tensor, change: Tensor) -> None:
        """Both of a patch: the discriminator's loss on real and on refined ones together, and the change."""
        value = math.log(2) - loss / 2 + self.config.regularization * change
        value = mean_of_processes(value.to(self.measured.dtype))
        self.updates.add_(1).clamp_(max=SPAN)
        self.measured.add_((value - self.measured) / self.updates)

    def convergence(self) -> float | None:
        """What the losses say of how far it is from what it is trained for; lower would be better. None before the end
        of the pre-training.

        J + lambda ||R(x) - x||_1 / P, with P patches a picture. J = log 2 - L_D / (2 P) in nats is 0 where the
        discriminator is at chance, and log 2 where it tells every patch; of a discriminator as good as can be it is
        the Jensen-Shannon divergence of real and refined patches (Goodfellow et al. 2014, theorem 1). A mean over the
        last 200 updates or so.

        Not proven to be of use: one that has learned too little, or was fooled, is at chance as well, and over the
        trainings in docs/systems.md it did not follow the accuracy of classifiers trained on the refined pictures. The
        metric `patch_divergence`, by a new discriminator each time, did so better.
        """
        return self.measured.item() if self.updates else None

    def signs(self, batch: Batch, probe: Batch, logged: Mapping[str, float]) -> Mapping[str, Tensor] | None:
        """None that tell something: a refined picture is to be near the simulated one."""
        return {}

    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        self.way(direction)
        return self.refiner(images)


def odds(logits: Tensor) -> Tensor:
    """(N, 2, H, W) logits of refined and real -> (N, H, W), the logit of real, whose sigmoid is the softmax"""
    return logits[:, 1] - logits[:, 0]


def patches(logits: Tensor) -> int:
    """Of a picture."""
    return logits[0].numel()


def changed(refined: Tensor, simulated: Tensor) -> Tensor:
    """||R(x) - x||_1, summed over the pixels of a picture, the mean over pictures."""
    difference = refined.to(simulated.dtype) - simulated
    return difference.abs().sum() / len(simulated)
