"""How to train, whatever the system and the data; and all that a run was asked for. Imports no torch, as `fastgan train
--help` reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fastgan.metrics.registry import best_by, to_be_best_by
from fastgan.options import Options, option, options

STEPS = 2000
AUTO = "auto"


@dataclass(frozen=True)
class Settings(Options):
    """How to train, whatever the system and the data."""

    batch_size: int = option(64, "images a step, of all processes together", least=1, on_resume="differs")
    seed: int = option(0, "of weights, latents and the order of images", least=0, most=2**63 - 1)
    workers: int | None = option(
        None, "processes that read data which are not in memory; none: by the number of cores", least=0,
        on_resume="free",
    )  # fmt: skip
    white: int | None = option(
        None, "the value that is, in pictures of 16-bit integers; none: what they tell", least=1, on_resume="differs"
    )
    precision: str = option(
        "auto", "of the networks; auto: bfloat16 on a GPU that has it",
        choices=("auto", "float32", "bfloat16", "float16"), on_resume="differs",
    )  # fmt: skip
    graph: bool | str = option(
        "auto", "the step as one CUDA graph; auto: where it can be, true: a warning where it cannot",
        choices=("auto", True, False), on_resume="free",
    )  # fmt: skip
    memory: str = option(
        "fast", "small: less memory for a longer step, which computes activations twice", choices=("fast", "small"),
        on_resume="differs",
    )  # fmt: skip
    channels_last: bool = option(True, "NHWC layout", on_resume="differs")
    flip: bool = option(False, "mirror half of the images, left to right", on_resume="differs")
    jitter: int = option(0, "pixels that images are made larger by before a random crop", least=0, on_resume="differs")
    ema: float = option(
        0.999, "decay of the moving average of the generator's weights; 0: none", least=0, below=1, on_resume="differs"
    )
    samples: int | None = option(None, "samples in a picture; none: 64 images, 1000 points", least=1)
    sample_every: int = option(
        200, "steps between pictures of samples, beside steps 10, 25, 50 and 100; 0: only the last", least=0,
        on_resume="free",
    )  # fmt: skip
    checkpoint_every: int = option(
        200, "steps between checkpoints; 0: only the first and the last", least=0, on_resume="free"
    )
    evaluate_every: int = option(
        1000, "steps between looks whether this is the best checkpoint so far; 0: none", least=0, on_resume="free"
    )
    metric: str = option(
        AUTO,
        f"what the best is told by: {', '.join(best_by())}; auto: the truth where a system that translates has one, "
        "else sliced_wasserstein",
    )
    patience: int = option(
        0, "looks without a better one before the run ends; 0: it goes on", least=0, on_resume="free"
    )
    log_every: int = option(20, "steps between logged values, which are means over them", least=1, on_resume="free")
    health: bool = option(True, "watch for what commonly goes wrong with a GAN", on_resume="free")
    remedy: str = option(
        "none", "against it; auto: the first of the remedies that a running training can take",
        choices=("none", "auto"), on_resume="free",
    )  # fmt: skip
    retries: int = option(
        0, "times to go back to a checkpoint, and on with other random numbers, after a value that is not finite",
        least=0, on_resume="free",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric != AUTO:
            object.__setattr__(self, "metric", to_be_best_by(self.metric))  # it may be an alias
        if self.patience and not self.evaluate_every:
            raise ValueError("patience counts looks for the best checkpoint: evaluate_every must be at least 1, not 0")


@dataclass(frozen=True)
class Config(Settings):
    """A run: `Settings`, and what is trained on what."""

    system: str = option("", "what to train: a name, such as dcgan")
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the system; the others are its paper's
    data: str = option(
        "digits",
        "a name of `fastgan systems`, a folder of pictures, hf:NAME, a .parquet or .arrow file; of systems that "
        "translate, others by default",
        on_resume="free",
    )
    steps: int = option(STEPS, "steps in all, from the beginning of the run", least=1, on_resume="free")
    device: str = option("auto", "cpu, cuda, cuda:1; auto: a GPU where there is one", on_resume="free")
    init_from: str | None = option(
        None, "begin with the weights of another run, or of a file, as far as they fit; none: random ones"
    )

    @property
    def settings(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in options(Settings)}

    def plain(self) -> dict[str, Any]:
        """What it is to its reader first; lists for tuples, as YAML has them."""
        values = dataclasses.asdict(self)
        first = {name: values.pop(name) for name in ("system", "options", "data", "steps", "device")}
        return _lists({**first, **values})


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_lists(item) for item in value]
    return value
