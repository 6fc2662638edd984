"""For tests of all systems: a small one of each name, and data of the kind that it trains on."""

from __future__ import annotations

import torch

from fastgan.bench.cases.systems import batch_for
from fastgan.data import Apart, Batch, ImageData, Source, Together
from fastgan.options import options
from fastgan.systems import System, Translator, create
from fastgan.systems.registry import find

LARGE = ("wgan-gp", "sngan", "context-encoder")  # that have no networks for 16x16 pixels
STAGES = {"pretraining": 0, "discriminator_pretraining": 0}  # the last one at once
SMALL = {"resolution": 16, "channels": 1, "width": 8, "latent": 8, "layers": 1, "blocks": 1, **STAGES}


def small(name: str, **given: object) -> System:
    """At 16x16 pixels, where there is such a network, with as many of these options as it has."""
    known = {each.name for each in options(find(name).Config)}
    wanted = {**SMALL, **({"resolution": 32} if name in LARGE else {}), **given}
    return create(name, **{key: value for key, value in wanted.items() if key in known})


def rows(system: System, count: int, seed: int = 0) -> Batch:
    """A batch of what it trains on."""
    return batch_for(system, count, seed)


def noise(system: System, count: int = 64) -> Source:
    """Data of `count` rows of the fields that it trains on: pairs, domains or images with labels of four classes."""
    _, height, width = system.image_shape

    def images(seed: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        shape = (count, system.image_shape[0], height, width)
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)

    if not isinstance(system, Translator) or set(system.inputs()) == {"image"}:
        return ImageData(images(1), torch.arange(count) % 4, ("a", "b", "c", "d"), (), "noise")
    fields = {name: (ImageData(images(seed), name=name), "image") for seed, name in enumerate(system.inputs())}
    if system.paired:
        return Together("noise", fields)
    return Apart("noise", [Together(name, {name: of}) for name, of in fields.items()])
