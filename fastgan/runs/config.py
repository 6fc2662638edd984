"""Everything that a run was asked for: one dataclass, written as YAML into the directory of the run."""

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
from fastgan.metrics.registry import to_be_best_by
from fastgan.systems import registry
from fastgan.systems.adversarial import LIVE
from fastgan.systems.config import build

STEPS = 2000
# How `health` judges:
GRACE = 20  # looks at the beginning, when every sample is noise and every discriminator strong
HOLD = 5  # looks, one at each line of the log, that a sign must last before it is told
HEADER = """\
# Everything this run was asked for. Another run like it: fastgan train --config {path} --out DIRECTORY
# After an edit, fastgan train --resume {run} takes the change, or says why it cannot.
"""

# What a run may change when it goes on. Of the second kind, the run is from there on another one than it would have
# been; of neither, there is nothing to go on with.
ALLOWED = (
    "steps",
    "device",
    "graph",
    "workers",
    "retries",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "evaluate_every",
    "patience",
    "health",
    "remedy",
    "data",  # where the same data lie now; a run goes on with no others
)
ALLOWED_TO_DIFFER = ("white", "batch_size", "precision", "memory", "channels_last", "flip", "ema")
# Likewise of a system's options: those that its networks do not depend on, where the system has them.
OPTIONS_TO_DIFFER = (
    "learning_rate", "discriminator_learning_rate", "adversarial_learning_rate", "betas", "adversarial_betas",
    "decay", "decay_from", "decay_steps", "clip_gradients", "discriminator_steps", "generator_batches", *LIVE,
    "clip", "penalty", "class_weight", "gamma", "lambda_k",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train, whatever the system and the data."""

    batch_size: int = 64  # images, of all processes together
    seed: int = 0  # of latents and of the order of images
    workers: int | None = None  # processes that read data which are not in memory; none: by the number of cores
    white: int | None = None  # the value that is, in pictures of 16-bit integers; none: what the pictures tell
    precision: str = "auto"  # auto, float32, bfloat16, float16: see Step
    graph: bool | str = "auto"  # the step as one CUDA graph: auto, true (a warning where it cannot be) or false
    memory: str = "fast"  # fast, small: activations are computed again in the backward pass: see Step
    channels_last: bool = True
    flip: bool = False  # mirror half of the images, left to right
    ema: float = 0.999  # decay of the generator's moving average a step; 0 keeps none
    samples: int | None = None  # in a picture of samples; none: 64 images, 1000 points
    sample_every: int = 200  # steps, and steps 10, 25, 50 and 100; 0 draws only the last
    checkpoint_every: int = 200  # steps; 0 saves only the first and the last
    evaluate_every: int = 1000  # steps between looking whether this is the best checkpoint so far; 0 never looks
    metric: str = (
        "sliced_wasserstein"  # what the best is told by; or frechet, kernel, coverage: of a classifier's features
    )
    patience: int = 0  # looks without a better one before the run ends; 0: it goes on to the last step
    log_every: int = 20  # steps; what is logged is the mean over them
    health: bool = True  # watch for a discriminator that wins, for samples that are all alike, and the like
    remedy: str = "none"  # against what it sees: none; or auto, the first remedy that a running training can take
    retries: int = 0  # how often to go back to a checkpoint, with other random numbers, after a value is not finite

    def __post_init__(self) -> None:
        every = ("sample_every", "checkpoint_every", "evaluate_every", "patience", "retries", "workers")
        for least, names in (1, ("batch_size", "samples", "log_every", "white")), (0, every):
            for name in names:
                value = getattr(self, name)
                if value is not None and value < least:
                    raise ValueError(f"{name} must be at least {least}, not {value}")
        if isinstance(self.graph, str) and self.graph != "auto":
            raise ValueError(f"graph must be auto, true or false, not {self.graph!r}")
        object.__setattr__(self, "metric", to_be_best_by(self.metric))
        if self.patience and not self.evaluate_every:
            raise ValueError("patience counts looks for the best checkpoint: evaluate_every must not be 0")
        if self.remedy not in ("none", "auto"):
            raise ValueError(f"remedy must be none or auto, not {self.remedy!r}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must lie in 0..2**63 - 1, not {self.seed}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), not {self.ema}")


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """A run: `Settings`, and what is trained on what."""

    system: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the system; the others are its paper's
    data: str = "digits"
    steps: int = STEPS  # in all, from the beginning of the run
    device: str = "auto"  # auto, cpu, cuda, cuda:N
    init_from: str | None = None  # the run or the file whose weights it began with; none: random ones

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise ValueError(f"steps must be at least 1, not {self.steps}")

    @property
    def settings(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)}

    def plain(self) -> dict[str, Any]:
        """What it is to its reader first; lists for tuples, as YAML has them."""
        values = dataclasses.asdict(self)
        first = {name: values.pop(name) for name in ("system", "options", "data", "steps", "device")}
        return _lists({**first, **values})


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


def make(values: Mapping[str, Any], owner: str) -> Config:
    """ValueError with the nearest names for an unknown option, TypeError for a value of the wrong type."""
    return build(Config, values, owner)


def complete(config: Config) -> Config:
    """The same with every option of its system, of the type it has there. Errors as `make`; a system that is not among
    `fastgan.systems.names()` stays as it is."""
    if config.system not in registry.names():
        return config
    options: Any = build(registry.find(config.system).Config, config.options, f"system {config.system}")
    return dataclasses.replace(config, options=dataclasses.asdict(options))


def write(path: Path, config: Config) -> None:
    header = HEADER.format(path=shlex.quote(str(path)), run=shlex.quote(str(path.parent)))
    text = header + yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True)
    replace_file(path, text.encode(), alone=True)


def changes(before: Config, after: Config) -> dict[str, str]:
    """What differs, as `name: old -> new`, by name; options of the system as options.NAME.

    ValueError, which names each of them, if a run cannot go on with one.
    """
    old, new = _flat(before), _flat(after)
    found = {
        name: f"{name}: {old.get(name)} -> {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)
    }
    differ = (*ALLOWED_TO_DIFFER, *(f"options.{name}" for name in OPTIONS_TO_DIFFER))
    refused = [text for name, text in found.items() if name not in (*ALLOWED, *differ)]
    if refused:
        raise ValueError(
            f"the run cannot go on with {'; '.join(refused)}. What may change is {', '.join(ALLOWED)} and, where the "
            f"run need not be the same bit for bit, {', '.join(differ)}; for the rest, start another run, "
            "perhaps from the weights of this one (--init-from)"
        )
    return found


def _flat(config: Config) -> dict[str, Any]:
    values = config.plain()
    return {**{f"options.{name}": value for name, value in values.pop("options").items()}, **values}


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_lists(item) for item in value]
    return value


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
