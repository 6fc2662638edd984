"""CycleGAN: Zhu, Park, Isola, Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
2017."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from fastgan.data.fields import Batch, Field, Images
from fastgan.fusion.paired import paired
from fastgan.losses import LeastSquares, cycle, identity
from fastgan.networks.patchgan import patchgan
from fastgan.networks.resnet_translator import resnet_translator
from fastgan.nn import init
from fastgan.options import option
from fastgan.systems.base import Part, Phase
from fastgan.systems.patches import ResidualConfig, ResidualTranslator
from fastgan.systems.pool import ImagePool
from fastgan.systems.remedies import COPIES, HIDDEN, Remedy


@dataclass(frozen=True)
class CycleGANConfig(ResidualConfig):
    """Defaults of the authors' code, for batches of one picture of each domain."""

    cycle: float = option(10.0, "weight of |F(G(a)) - a| and |G(F(b)) - b|", least=0, on_resume="differs")
    identity: float = option(
        0.5, "that of |G(b) - b| and |F(a) - a|, which keep the colors, as a share of it", least=0, on_resume="differs"
    )
    fit: str = option(
        "crop", "of larger pictures the middle, made smaller, or windows at full resolution, for few of a style",
        choices=("crop", "cut"),
    )  # fmt: skip
    pool: int = option(50, "generated pictures of each domain that its discriminator may see again; 0: none", least=0)


class State(NamedTuple):
    """Of N pictures of each domain: (N, C, H, W) each."""

    a: Tensor
    b: Tensor
    fake_a: Tensor  # of b, with the graph of `back`
    fake_b: Tensor  # of a, with the graph of `forth`


class CycleGAN(ResidualTranslator):
    """Two sets of pictures without pairs: one generator each way, and there and back again is the same (Zhu 2017)."""

    name: ClassVar[str] = "cyclegan"
    Config: ClassVar[type] = CycleGANConfig
    averaged: ClassVar[tuple[str, ...]] = ("forth", "back")
    directions: ClassVar[Mapping[str, tuple[str, str]]] = {"a to b": ("a", "b"), "b to a": ("b", "a")}
    paired: ClassVar[bool] = False
    trains_on: ClassVar[str] = "styles"
    against: ClassVar[Mapping[str, tuple[Remedy, ...]]] = {
        COPIES: (Remedy("identity=0"), Remedy("a smaller cycle")), HIDDEN: (Remedy("a smaller cycle"),)
    }  # fmt: skip

    def __init__(self, config: CycleGANConfig) -> None:
        super().__init__(config)
        channels, width = config.channels, config.discriminator_width or config.width
        sizes = config.width, config.residual, channels, channels
        self.forth, self.back = (resnet_translator(*sizes, config.upsampling) for _ in range(2))
        self.discriminator_a, self.discriminator_b = (patchgan(channels, width, config.layers) for _ in range(2))
        self.pool_a, self.pool_b = (ImagePool(config.pool, self.image_shape) for _ in range(2))
        init.dcgan(self)
        self.loss = LeastSquares()

    def inputs(self) -> dict[str, Field]:
        return {name: Images(*self.image_shape, fit=self.config.fit) for name in ("a", "b")}

    def phases(self) -> list[Phase]:
        return [
            self.phase("generators", self.generators_loss, self.forth, self.back),
            self.phase("discriminators", self.discriminators_loss, self.discriminator_a, self.discriminator_b),
        ]

    def prepare(self, batch: Batch) -> State:
        return State(batch.a, batch.b, self.back(batch.b), self.forth(batch.a))

    def generators_loss(self, state: State) -> Iterator[Part]:
        config, a, b = self.config, state.a, state.b
        for name, before, fake, back, discriminator in (
            ("b", a, state.fake_b, self.back, self.discriminator_b),
            ("a", b, state.fake_a, self.forth, self.discriminator_a),
        ):
            fooled, logged = self.loss.generator_logged(discriminator(self.augment(fake)))
            restored = cycle(before, back(fake), config.cycle)
            # The paper has the squares themselves, LeastSquares half of them.
            yield 2 * fooled + restored, {f"fake_{name}": logged["fake"], "cycle": restored.detach()}
        if weight := config.cycle * config.identity:
            for after, generator in ((b, self.forth), (a, self.back)):
                kept = identity(after, generator(after), weight)
                yield kept, {"identity": kept.detach()}

    def discriminators_loss(self, state: State) -> Iterator[Part]:
        for name, real, fake, pool, discriminator in (
            ("a", state.a, state.fake_a, self.pool_a, self.discriminator_a),
            ("b", state.b, state.fake_b, self.pool_b, self.discriminator_b),
        ):
            shown = self.augment(real), self.augment(pool(fake))
            loss, logged = self.loss.discriminator_logged(*paired(discriminator, *shown))
            yield loss, {f"{key}_{name}": value for key, value in logged.items()}

    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        generator: nn.Module = self.forth if self.way(direction) == "a to b" else self.back
        return generator(images)
