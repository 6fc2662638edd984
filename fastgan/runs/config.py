"""Everything that a run was asked for, as YAML in the directory of the run, and what of it may change."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fastgan.files import replace_file
from fastgan.options import build, former, options
from fastgan.runs.settings import Config, Settings
from fastgan.systems import registry
from fastgan.systems.remedies import UNEVEN

__all__ = ["Config", "Settings", "changes", "complete", "make", "read", "write"]
# How `health` judges:
GRACE = 20  # looks at the beginning, when every sample is noise and every discriminator strong
HOLD = 5  # looks, one at each line of the log, that a sign must last before it is told
LONG = 25  # that one must which comes and goes
HEADER = """\
# Everything this run was asked for. Another run like it: fastgan train --config {path} --out DIRECTORY
# After an edit, fastgan train --resume {run} takes the change, or says why it cannot.
"""


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The values that a YAML file gives, not yet checked beyond their names.

    FileNotFoundError; ValueError for what is not YAML, not a mapping, or has a key twice or one that no run has.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"no configuration at {path}") from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML file") from error
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold `option: value` lines, as the config.yaml of a run does, not {values!r}")
    make(values, str(path))
    return values


def hold(symptom: str) -> int:
    """Looks that a sign of it must last before it is told."""
    return LONG if symptom == UNEVEN else HOLD


def make(values: Mapping[str, Any], owner: str) -> Config:
    """ValueError with the nearest names for an unknown option, TypeError for a value of the wrong type."""
    return build(Config, values, owner)


def complete(config: Config, kind: type | None = None) -> Config:
    """The same with every option of its system, of the type it has there. Errors as `make`.

    kind: the system's `Config`; by default that of the system by that name, and nothing is done where there is none."""
    if kind is None:
        if config.system not in registry.names():
            return config
        kind = registry.find(config.system).Config
    options: Any = build(kind, former(kind, config.options), f"system {config.system}")
    return dataclasses.replace(config, options=dataclasses.asdict(options))


def write(path: Path, config: Config) -> None:
    header = HEADER.format(path=shlex.quote(str(path)), run=shlex.quote(str(path.parent)))
    text = header + yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True)
    replace_file(path, text.encode(), alone=True)


def changes(before: Config, after: Config, kind: type | None = None) -> dict[str, str]:
    """What differs, as `name: old -> new`, by name; options of the system as options.NAME.   kind: as in `complete`.

    ValueError, which names each of them, if a run cannot go on with one.
    """
    old, new = _flat(before), _flat(after)
    found = {
        name: f"{name}: {old.get(name)} -> {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)
    }
    if kind is None and after.system in registry.names():
        kind = registry.find(after.system).Config
    free, differ = [], []
    for prefix, known in (("", options(Config)), ("options.", options(kind) if kind else ())):
        free += [prefix + each.name for each in known if each.on_resume == "free"]
        differ += [prefix + each.name for each in known if each.on_resume in ("differs", "live")]
    refused = [text for name, text in found.items() if name not in (*free, *differ)]
    if refused:
        raise ValueError(
            f"the run cannot go on with {'; '.join(refused)}. What may change is {', '.join(free)} and, where the run "
            f"need not be the same bit for bit, {', '.join(differ)}; for the rest, start another run, perhaps from the "
            "weights of this one (--init-from)"
        )
    return found


def _flat(config: Config) -> dict[str, Any]:
    values = config.plain()
    return {**{f"options.{name}": value for name, value in values.pop("options").items()}, **values}


class _Loader(yaml.SafeLoader):
    """Reads 2e-4 as a number, which YAML 1.1 takes for text, and refuses a key that is there twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
