"""Options chosen by the data and the time that there is: `quick`, for minutes on a CPU, and `paper`."""

from __future__ import annotations

from typing import Any

from fastgan.options import options, text
from fastgan.systems.base import System
from fastgan.systems.quick import AUGMENT, FEW, SIDE, Preset
from fastgan.systems.registry import find

__all__ = ["AUGMENT", "FEW", "NAMES", "Preset", "described", "preset"]
NAMES = ("quick", "paper")
TOGETHER = ("decay", "decay_from", "decay_steps")  # who gives one of them gives all


def preset(system: str | type[System], data: Any, name: str = "quick", **given: Any) -> Preset:
    """Options for `system` on `data`: those that follow from the data (`System.options_for`: resolution, channels,
    classes, ...), and those that the preset `name` chooses.

        options, settings = preset("dcgan", "emoji", "quick")
        Trainer(create("dcgan", **options), "emoji", out="runs/emoji", **settings)

    name: "quick", what shows something within minutes on a CPU (`System.quick`); or "paper", everything else as its
    paper has it.
    data: what `fastgan.data.load` loads or `Batches` takes.   given: options and settings that are decided: they are
    left out of the result, and the rest follows them.
    ValueError for an unknown system, data set or preset.
    """
    if name not in NAMES:
        raise ValueError(f"preset must be one of {', '.join(NAMES)}, not {name!r}")
    cls = find(system)
    from fastgan.data import load, source_of  # whoever creates a system needs none

    source = load(data, channels=given.get("channels")) if isinstance(data, str) else source_of(data)
    follows = cls.options_for(source.fields, given)
    chosen = (cls.quick if name == "quick" else cls.paper)(source.fields, rows_of(source), given.get("steps"))
    if name == "quick" and "resolution" in follows:
        follows["resolution"] = min(follows["resolution"], chosen.options.get("resolution", SIDE))
    accepted = {each.name for each in options(cls.Config)}
    found = {**follows, **chosen.options, **follows}
    decided = {*given, *(TOGETHER if any(each in given for each in TOGETHER) else ())}
    return Preset(
        {key: value for key, value in found.items() if key in accepted - decided},
        {key: value for key, value in chosen.settings.items() if key not in decided},
    )


def described(chosen: Preset) -> str:
    """Its options and settings in a line, without what only follows the data."""
    values = {**chosen.options, **chosen.settings}
    return ", ".join(
        f"{key.replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else text(value)}"
        for key, value in values.items()
        if key not in ("channels", "classes")
    )


def rows_of(source: Any) -> int | None:
    """How many rows it has; None of a stream."""
    try:
        return len(source)
    except TypeError:
        return None
