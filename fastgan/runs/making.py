"""From words to a system and its data: the same words make the same model for `fastgan train` and for `Trainer`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastgan.data import load, source_of
from fastgan.data.fields import Images
from fastgan.data.fitting import fitted
from fastgan.data.lazy import Pictures
from fastgan.options import build, checked, former, nearest, options
from fastgan.random import private
from fastgan.runs.run import choose_device
from fastgan.runs.settings import Config
from fastgan.systems import System, create
from fastgan.systems.presets import described, preset
from fastgan.systems.registry import find


class Made(NamedTuple):
    system: System
    data: Any  # as the system needs them
    settings: dict[str, Any]  # of the training, all fields of `Config` but the system, its options and the data
    remarks: list[str]  # what is to be said of it


def make(
    system: str | type[System],
    data: Any,
    settings: Mapping[str, Any],
    chosen: Mapping[str, Any],
    name: str | None = None,
) -> Made:
    """The system with weights that the seed gives, fitted to the data.

    What is given comes first, then what follows from the data (`System.options_for`), then the preset, then the paper.

    settings: fields of `Config`.   chosen: options of the system.   name: of the preset; by default quick without a
    GPU, else paper. Errors as of `build`, `create` and `fastgan.data.load`.
    """
    cls = find(system)
    chosen = former(cls.Config, chosen)
    asked = build(Config, settings, "")
    checked(cls.Config, chosen, f"system {cls.name}")  # before the data are looked for
    data = os.fspath(data) if isinstance(data, os.PathLike) else data
    source = load(data, channels=chosen.get("channels")) if isinstance(data, str) else source_of(data)
    taken = name or ("quick" if choose_device(asked.device).type == "cpu" else "paper")
    found = preset(cls, source, taken, **{**settings, **chosen})
    asked = build(Config, {**found.settings, **settings}, "")
    with private(asked.seed):
        made = create(cls, **{**found.options, **chosen})
    remarks = []
    if taken == "quick" and (text := described(found)):
        why = "" if name else " (no GPU)"
        remarks.append(f"preset quick{why}: {text}; --preset paper for the paper's")
    image = source.fields.get("image")
    side = found.options.get("resolution", 0)
    if isinstance(image, Images) and 1 < side < min(image.height, image.width) and not isinstance(source, Pictures):
        remarks.append(
            f"{source.name} has pictures of {image.width}x{image.height} pixels or more: training at {side}x{side}, "
            "--resolution N for another size"
        )
    values = {each.name: getattr(asked, each.name) for each in options(Config)}
    settings = {key: value for key, value in values.items() if key not in ("system", "options", "data")}
    taken_as = fitted(source, made.inputs())
    return Made(made, data if taken_as is source and not isinstance(data, str) else taken_as, settings, remarks)


def parted(system: str | type[System], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the training, and options of the system. ValueError with the nearest names for what is neither."""
    cls = find(system)
    of_run = {each.name for each in options(Config)} - {"system", "options", "data"}
    of_system = {each.name for each in options(cls.Config)}
    if both := sorted(of_run & of_system):
        raise ValueError(f"{cls.name} has an option {both[0]}, as the training has: give it another name")
    without = {name for family in getattr(cls.Config, "without", {}) for name in (e.name for e in options(family))}
    for name in given:
        if name not in of_run | of_system | without:
            known = [*sorted(of_system), *sorted(of_run)]
            raise ValueError(
                f"neither {cls.name} nor the training has an option {name!r}{nearest(name, known)}. Accepted: "
                f"{', '.join(known)}"
            )
    return (
        {name: value for name, value in given.items() if name in of_run},
        {name: value for name, value in given.items() if name not in of_run},
    )
