"""Whole steps of published networks: eager PyTorch, the same after `fuse`, and torch.compile, of the same dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.flop_counter import FlopCounterMode

import fastgan
from fastgan import networks as nets
from fastgan.bench import isolation
from fastgan.bench.timing import Row, WrongResult
from fastgan.bench.variants import Suite, Variant
from fastgan.messages import log
from fastgan.training import process

Networks = tuple[nn.Module, ...]
TRANSFORMS: dict[str, Callable[[nn.Module], Any]] = {  # of each variant
    "eager": lambda network: network,
    "eager + fastgan.fuse": fastgan.fuse,
    "eager + fastgan.fuse, channels_last": fastgan.fuse,
    "compile": torch.compile,
}
DTYPES = ("float32", "bfloat16")


def autocast(dtype: str) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    ones, zeros = torch.ones_like(real), torch.zeros_like(fake)
    return F.binary_cross_entropy_with_logits(real, ones) + F.binary_cross_entropy_with_logits(fake, zeros)


def non_saturating_generator(fake: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    return -fake.mean()


class GANStep:
    """One step of a GAN as users write it: step(images, latent) -> the two losses, with gradients left in `.grad`.

    The generator runs once; the discriminator on real, on fake, and after its update on fake again.
    """

    losses: tuple[Callable[..., Tensor], Callable[[Tensor], Tensor]] = (non_saturating, non_saturating_generator)

    def __init__(self, plain: Networks, transform: Callable[[nn.Module], Any], dtype: str, rate: float) -> None:
        self.optimizers = [torch.optim.Adam(network.parameters(), rate, (0.5, 0.999)) for network in plain]
        self.generator, self.discriminator = (transform(network) for network in plain)
        self.dtype = dtype

    def __call__(self, images: Tensor, latent: Tensor) -> list[float]:
        loss, generator_loss = self.losses
        for_generator, for_discriminator = self.optimizers
        for_discriminator.zero_grad()
        with autocast(self.dtype):
            fake = self.generator(latent)
            real_logits, fake_logits = self.discriminator(images), self.discriminator(fake.detach())
        loss_d = loss(self.upcast(real_logits), self.upcast(fake_logits))
        loss_d.backward()
        for_discriminator.step()
        for_generator.zero_grad()
        with autocast(self.dtype):
            fake_logits = self.discriminator(fake)
        loss_g = generator_loss(self.upcast(fake_logits))
        loss_g.backward()
        for_generator.step()
        return [loss_d.item(), loss_g.item()]

    def upcast(self, logits: Tensor) -> Tensor:
        return logits.float() if self.dtype == "bfloat16" else logits


class HingeStep(GANStep):
    losses = (hinge, hinge_generator)


class Regression:
    """Forward and backward of an image-to-image network with an L1 loss, without an update."""

    def __init__(self, plain: Networks, transform: Callable[[nn.Module], Any], dtype: str, rate: float) -> None:
        (self.plain,) = plain
        self.network, self.dtype = transform(self.plain), dtype

    def __call__(self, images: Tensor, target: Tensor) -> list[float]:
        self.plain.zero_grad()
        with autocast(self.dtype):
            result = self.network(images)
        loss = F.l1_loss(result.to(target.dtype), target)
        loss.backward()
        return [loss.item()]


@dataclass(frozen=True)
class NetworkCase:
    """A network, or a generator and its discriminator, and what one trains them on."""

    name: str
    title: str
    make: Callable[[], Networks]
    step: type
    batch: int
    inputs: tuple[tuple[int, ...], tuple[int, ...]]  # shapes of one element: images and latent, or input and target
    check_batch: int
    channels_last: bool = True

    def variants(self, compiled: bool = False) -> list[Variant]:
        return [
            variant
            for variant in SUITE
            if (compiled or variant.role != "compiled") and not (self.channels_last and variant.layout)
        ]

    def layout(self, variant: Variant) -> torch.memory_format:
        last = self.channels_last or variant.layout == "channels_last"
        return torch.channels_last if last else torch.contiguous_format

    def networks(self, layout: torch.memory_format, dtype: torch.dtype = torch.float32) -> Networks:
        """The same weights at every call."""
        torch.manual_seed(0)
        made = self.make()
        for network in made:
            network.to(dtype, memory_format=layout)  # type: ignore[call-overload]
        return made

    def tensors(self, batch: int, layout: torch.memory_format, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Random, the same at every call: images in [-1, 1], latents normal."""
        random = torch.Generator().manual_seed(0)
        result = []
        for shape in self.inputs:
            given = torch.randn((batch, *shape), generator=random)
            if len(shape) == 3 and shape[-1] > 1:
                given = given.tanh().contiguous(memory_format=layout)
            result.append(given.to(dtype))
        return result


def sngan(latent: int = 128, width: int = 256, discriminator_width: int = 128) -> Networks:
    """SNGAN's ResNets for 32x32, spectral norm and no other in the discriminator (Miyato et al. 2018)."""
    discriminator = nets.residual.discriminator(3, discriminator_width)
    for module in discriminator.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            spectral_norm(module)
    return nets.residual.generator(latent, [width] * 4, 3), discriminator


# SNGAN at half its published widths (256, 128): a step then takes a second on two cores. CycleGAN contiguous, because
# there PyTorch 2.13's instance norm gives wrong gradients on the CPU for a batch of one in channels_last.
_CASES = (
    NetworkCase(
        "rc-dcgan",
        "resize-convolution DCGAN 64x64 step",
        lambda: (nets.resize_dcgan.generator(), nets.resize_dcgan.discriminator()),
        GANStep,
        *(64, ((3, 64, 64), (100, 1, 1)), 4),
    ),
    NetworkCase(
        "sngan",
        "SNGAN ResNet 32x32 step, widths 128 and 64",
        lambda: sngan(width=128, discriminator_width=64),
        HingeStep,
        *(64, ((3, 32, 32), (128,)), 4),
    ),
    NetworkCase(
        "cyclegan",
        "CycleGAN generator 128x128, 6 blocks",
        lambda: (nets.resnet_translator(blocks=6),),
        Regression,
        *(1, ((3, 128, 128), (3, 128, 128)), 1, False),
    ),
    NetworkCase(
        "srgan",
        "SRGAN generator 24x24 to 96x96",
        lambda: (nets.SRGANGenerator(),),
        Regression,
        *(8, ((3, 24, 24), (3, 96, 96)), 2),
    ),
    NetworkCase(
        "pix2pix",
        "pix2pix U-Net 256x256",
        lambda: (nets.UNet(),),
        Regression,
        *(1, ((3, 256, 256), (3, 256, 256)), 1),
    ),
    NetworkCase(
        "vgg",
        "VGG-19 to its last ReLU, 96x96",
        lambda: (nets.vgg19(),),
        Regression,
        *(8, ((3, 96, 96), (512, 6, 6)), 2),
    ),
)


def cases(only: Sequence[str] = ()) -> Iterator[NetworkCase]:
    """All, or those named. ValueError for a name that there is not."""
    known = {case.name: case for case in _CASES}
    for name in only:
        if name not in known:
            raise ValueError(f"no network {name!r}; there are {', '.join(known)}")
    return iter([known[name] for name in dict.fromkeys(only)] if only else _CASES)


def _step(how: str, name: str, dtype: str, batch: int | None = None) -> Callable[[], list[float]]:
    """One step of a case as a call without arguments, which gives the losses."""
    (case,) = cases([name])
    layout = case.layout(SUITE[how])
    step = case.step(case.networks(layout), TRANSFORMS[how], dtype, 2e-4)
    tensors = case.tensors(batch or case.batch, layout)
    return lambda: step(*tensors)


EAGER, FUSED, FUSED_LAST, COMPILED = TRANSFORMS
SUITE = Suite(
    __name__,
    [
        Variant(EAGER, partial(_step, EAGER)),
        Variant(FUSED, partial(_step, FUSED), "ours"),
        Variant(FUSED_LAST, partial(_step, FUSED_LAST), "ours", layout="channels_last"),  # where others are contiguous
        Variant(COMPILED, partial(_step, COMPILED), "compiled", baseline=EAGER),
    ],
)


def check(case: NetworkCase, dtype: str) -> None:
    """WrongResult where losses or gradients after `fuse` are further from float64 than twice those of eager PyTorch of
    this dtype, or where those are far off themselves.

    The gradient of a whole network is a sum of millions of terms, some of which change sides of a ReLU by rounding:
    the error is that of a whole parameter, and may be `slack` of the parameter and `least` of all gradients.
    """
    slack, least, far = (5e-3, 1e-5, 0.05) if dtype == "float32" else (2e-2, 1e-3, 0.5)
    exact = _outcome(case, SUITE[EAGER], "float64")
    norm = _norm(exact)
    theirs = _outcome(case, SUITE[EAGER], dtype)
    if not _norm({name: theirs[name] - exact[name] for name in exact}) <= far * norm:
        raise WrongResult(f"{case.title}, {dtype}: PyTorch's own gradients are wrong; its speed is not reported")
    for variant in case.variants():
        ours = _outcome(case, variant, dtype)
        for name, e in exact.items():
            error, own = float((ours[name] - e).norm()), float((theirs[name] - e).norm())
            if not error <= 2 * own + slack * float(e.norm()) + least * norm:
                raise WrongResult(
                    f"{case.title}, {dtype}, {variant.name}: {name} is off by {error:.2e}, PyTorch itself by {own:.2e}"
                )


def _norm(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(t.square().sum()) for t in tensors.values()))


def _outcome(case: NetworkCase, variant: Variant, dtype: str) -> dict[str, Tensor]:
    """Losses and gradients of one step that does not move the weights, in float64."""
    double = dtype == "float64"
    layout, computed_in = case.layout(variant), torch.float64 if double else torch.float32
    networks = case.networks(layout, computed_in)
    # The truth is taken from contiguous tensors, of which PyTorch has no special cases. But dropout draws in the order
    # of memory.
    if double and not any(isinstance(module, nn.Dropout) for network in networks for module in network.modules()):
        layout = torch.contiguous_format
        networks = case.networks(layout, computed_in)
    step = case.step(networks, TRANSFORMS[variant.name], dtype, 0.0)
    torch.manual_seed(1)  # of dropout
    losses = step(*case.tensors(case.check_batch, layout, computed_in))
    result = {f"loss {number}": torch.tensor(loss, dtype=torch.float64) for number, loss in enumerate(losses)}
    for network in networks:
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            result[f"the gradient of {type(network).__name__} {name}"] = parameter.grad.double()
    return result


def measure(
    only: Sequence[str] = (),
    dtypes: Sequence[str] = DTYPES,
    rounds: int = 7,
    compiled: bool = False,
    limit: float = 600.0,
    memory: bool = False,
) -> list[Row]:
    """The check, then every variant in turn; a case a network and dtype, ratios to its eager mode."""
    process.prepare()  # for eager mode, too: what else a step of pix2pix takes, 105 to 180 ms, is a matter of luck
    result: list[Row] = []
    for case in cases(only):
        gflop = _gflop(case)
        for dtype in dtypes:
            log.info("%s, %s", case.title, dtype)
            check(case, dtype)
            ready = isolation.ready(SUITE, case.variants(compiled), (case.name, dtype), limit)
            facts = {"network": case.name, "batch": case.batch, "dtype": dtype, "GFLOP": gflop}
            title = f"{case.title}, batch {case.batch}, {dtype}"
            result += ready.rows(title, facts, case.batch, rounds, memory)
    return result


def _gflop(case: NetworkCase) -> float:
    """Of a step in eager mode, two for a multiplication and addition, counted on the check's batch."""
    layout = case.layout(SUITE[EAGER])
    step = case.step(case.networks(layout), TRANSFORMS[EAGER], "float32", 0.0)
    with FlopCounterMode(display=False) as counter:
        step(*case.tensors(case.check_batch, layout))
    return round(counter.get_total_flops() / case.check_batch * case.batch / 1e9, 1)
