"""Options chosen by the data and the time that there is: `quick`, for minutes on a CPU, and `paper`."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from fastgan.systems.registry import find

NAMES = ("quick", "paper")
SIDES = {"quick": 32, "paper": 64}  # pixels; larger pictures are made so small
FEW = 5000  # pictures: of fewer, a discriminator soon knows each by heart (Zhao et al. 2020, Karras et al. 2020)
AUGMENT = "translation,cutout"  # which does well on few pictures, whatever their colors

# By system: options of it, then of the training. What is not named is the paper's. They come from the trainings in
# benchmarks/quality.py and docs/systems.md.
QUICK: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gan": ({}, {}),
    "dcgan": ({"width": 32, "upsampling": "resize", "r1": 1.0}, {"batch_size": 32}),
    "lsgan": ({"width": 16, "latent": 100, "learning_rate": 2e-4, "r1": 1.0}, {"batch_size": 32}),
    "wgan": ({"width": 32, "learning_rate": 2e-4}, {"batch_size": 32}),
    "wgan-gp": ({"width": 16, "learning_rate": 2e-4, "discriminator_steps": 2}, {"batch_size": 32}),
    "sngan": ({"width": 32, "discriminator_width": 32, "discriminator_steps": 2}, {"batch_size": 16}),
    "sgan": ({"resolution": 16, "width": 16, "learning_rate": 1e-3}, {"batch_size": 50}),
    "acgan": ({"width": 32, "discriminator_width": 8, "dropout": 0.3, "learning_rate": 1e-3}, {}),
    "began": (
        {"resolution": 16, "width": 16, "discriminator_width": 8, "latent": 16, "learning_rate": 1e-3,
         "discriminator_learning_rate": 5e-4, "gamma": 1.0, "lambda_k": 0.1},
        {"batch_size": 16, "steps": 4000},
    ),
    "wngan": (
        {"resolution": 16, "width": 16, "latent": 32, "learning_rate": 2e-4, "r1": 1.0},
        {"batch_size": 32, "steps": 4000},
    ),
    "autoencoder": ({"width": 8, "latent": 16, "learning_rate": 2e-3}, {"steps": 500}),
}  # fmt: skip
GRAY: dict[str, dict[str, Any]] = {"dcgan": {"width": 16}}  # as near to digits as with 32, in half of the time
# Those that take it. Of emoji, 1000 steps of dcgan had a Frechet distance of 2.6 with it and of 3.7 without; of digits,
# which fill their pictures and have no colors, 5.1 and 4.2.
AUGMENTED = ("dcgan", "lsgan")

# Points of the plane: latents of two numbers, as a sheet is more easily laid over the modes (WGAN-GP's authors do so).
POINTS: dict[str, dict[str, Any]] = {
    "gan": {"width": 32, "discriminator_width": 64, "discriminator_steps": 3},
    "wgan-gp": {"width": 128, "penalty": 0.1},
    "sngan": {"width": 128, "discriminator_width": 128},
}
POINTS_TOO: dict[str, Any] = {"latent": 2, "learning_rate": 1e-3, "decay": "linear"}
POINTS_SETTINGS: dict[str, Any] = {"batch_size": 256, "steps": 6000, "precision": "float32"}
TOGETHER = ("decay", "decay_from", "decay_steps")  # who gives one of them gives all


class Preset(NamedTuple):
    options: dict[str, Any]  # of the system: `create(name, **options)`
    settings: dict[str, Any]  # of the training: fields of `fastgan.training.Config`


def preset(system: str, data: Any, name: str = "quick", **given: Any) -> Preset:
    """Options for `system` on `data`: those that the data ask for (`resolution`, `channels`, `classes`), and those that
    the preset `name` chooses.

        options, settings = preset("dcgan", "emoji", "quick")
        Trainer(create("dcgan", **options), "emoji", out="runs/emoji", **settings)

    name: "quick", what shows something within minutes on a CPU; or "paper", everything else as its paper has it.
    data: what `fastgan.data.load` loads or makes.   given: options and settings that are decided: they are left out of
    the result, and the rest follows them.
    ValueError for an unknown system, data set or preset.
    """
    if name not in NAMES:
        raise ValueError(f"preset must be one of {', '.join(NAMES)}, not {name!r}")
    accepted = {field.name for field in dataclasses.fields(find(system).Config)}
    if isinstance(data, str):
        from fastgan import data as datasets  # whoever creates a system needs none

        data = datasets.load(data, channels=given.get("channels"))
    channels, height, width = data.shape
    options: dict[str, Any] = {"resolution": SIDES[name], "channels": channels}
    options["classes"] = len(getattr(data, "classes", ()))
    settings: dict[str, Any] = {}
    points = (height, width) == (1, 1)
    if name == "quick" and points and system in POINTS:
        options |= POINTS[system] | POINTS_TOO
        settings |= POINTS_SETTINGS
    elif name == "quick" and not points:
        options |= QUICK[system][0]
        settings |= QUICK[system][1]
        if channels == 1:
            options |= GRAY.get(system, {})
        elif system in AUGMENTED and (size_of(data) or FEW) < FEW:
            options["augment"] = AUGMENT
    if "decay" in options or (name == "quick" and system == "sngan"):
        options["decay_steps"] = given.get("steps", settings.get("steps", 2000))
    side = min(height, width)
    most = options["resolution"]
    options["resolution"] = 1 if side == 1 else min(max(32, 1 << (side.bit_length() - 1)), most)
    left_out = {*given, *(TOGETHER if any(option in given for option in TOGETHER) else ())}
    return Preset(
        {key: value for key, value in options.items() if key in accepted and value and key not in left_out},
        {key: value for key, value in settings.items() if key not in left_out},
    )


def described(chosen: Preset) -> str:
    """Its options and settings in a line, without what only follows the data."""
    values = {**chosen.options, **chosen.settings}
    return ", ".join(
        f"{key.replace('_', ' ')} {value:g}" if isinstance(value, int | float) else f"{key.replace('_', ' ')} {value}"
        for key, value in values.items()
        if key not in ("channels", "classes")
    )


def size_of(data: Any) -> int | None:
    """How many pictures there are; None of a stream."""
    try:
        return len(data)
    except TypeError:
        return None
