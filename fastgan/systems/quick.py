"""What the quick presets of the systems are made of: options for minutes on a CPU. They come from the trainings in
benchmarks/quality.py and docs/systems.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastgan.data.fields import Field, Images, Vectors

SIDE = 32  # pixels; larger pictures are made so small
STEPS = 2000
FEW = 5000  # pictures: of fewer, a discriminator soon knows each by heart (Zhao et al. 2020, Karras et al. 2020)
AUGMENT = "translation,cutout"  # which does well on few pictures, whatever their colors


class Preset(NamedTuple):
    options: dict[str, Any]  # of the system: `create(name, **options)`
    settings: dict[str, Any]  # of the training: fields of `fastgan.runs.Config`


def gray(fields: Mapping[str, Field]) -> bool:
    return isinstance(image := fields.get("image"), Images) and image.channels == 1


def augmented(fields: Mapping[str, Field], rows: int | None) -> dict[str, Any]:
    """The option against few pictures, where they have colors: digits, which fill their pictures, are worse with it
    (Frechet distance 5.1 instead of 4.2 after 1000 steps of dcgan), emoji better (2.6 instead of 3.7)."""
    return {"augment": AUGMENT} if (rows or FEW) < FEW and not gray(fields) else {}


def of_points(fields: Mapping[str, Field]) -> bool:
    return isinstance(fields.get("vector"), Vectors)


def for_points(steps: int | None, **options: Any) -> Preset:
    """Latents of two numbers, as a sheet is more easily laid over the modes (WGAN-GP's authors do so)."""
    sheet = {"latent": 2, "learning_rate": 1e-3, "decay": "linear", "decay_steps": steps or 6000}
    return Preset({**options, **sheet}, {"batch_size": 256, "steps": 6000, "precision": "float32"})
