"""What a training says before its first step, on what, with what, how long; and where it stopped before the last."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import torch

from fastgan import backend
from fastgan.data.fields import Field, Images, Labels, Texts, Vectors
from fastgan.data.problems import examples
from fastgan.messages import log
from fastgan.runs.config import Config
from fastgan.runs.run import quoted, versions
from fastgan.systems import System
from fastgan.systems.adversarial import AdversarialSystem
from fastgan.systems.presets import AUGMENT, FEW

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


def opening(trainer: Trainer) -> None:
    """Tell it, once a `fit`, in the first process."""
    if not trainer.ranks.first:
        return
    asked, step, run = trainer.config, trainer.step, trainer.run
    dtype, processes = trainer.train_step.autocast_dtype, trainer.ranks.count
    made_by, *lines = header(trainer.system, asked, trainer.data, dtype, processes)
    run.note("INFO", f"{trainer.command or 'Trainer.fit'} ({made_by})")
    steps = f"{asked.steps:,} steps" if not step else f"steps {step + 1:,} to {asked.steps:,}"
    lines.append(f"{steps} in batches of {asked.batch_size}; the run is in {run.path}")
    if not step and asked.health:
        lines.append(few(trainer.system, trainer.data["images"]))
    for line in filter(None, [*lines, *trainer.remarks]):
        log.info("%s", line)
    for problem in filter(None, [*trainer.feed.batches.problems(), backend.no_kernels()]):
        log.warning("%s", problem)
    trainer.remarks.clear()


def tell_the_end(trainer: Trainer) -> None:
    """Why not all steps are done. KeyboardInterrupt or SystemExit where a signal asked to stop."""
    first = trainer.ranks.first
    if trainer.stopped:
        if first:
            _say(trainer, f"stopped early at step {trainer.step}: {trainer.stopped}")
    elif not trainer.finished:
        if first and trainer.checkpoints.step >= 0:
            again = f"fastgan train --resume {quoted(trainer.run.path)}"
            _say(trainer, f"stopped at step {trainer.step}; to go on: {again}")
        elif first:
            log.warning("stopped before the first step: nothing is kept")
        if trainer.interrupted() == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


def _say(trainer: Trainer, text: str) -> None:
    """A warning when log.txt is closed."""
    log.warning("%s", text)
    trainer.run.note("WARNING", text)


def header(system: System, asked: Config, data: dict[str, Any], dtype: torch.dtype | None, processes: int) -> list[str]:
    """Lines for the terminal and log.txt.   data: what a checkpoint says of them.   dtype: of autocast, if any."""
    made_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    first, *others = (field for field in system.inputs().values() if not isinstance(field, Labels))
    kind = {Images: "images", Vectors: "points", Texts: "texts"}[type(first)]
    images = f"a stream of {kind}" if data["images"] is None else f"{data['images']:,} {kind}"
    if system.class_names:
        images += f" of {len(system.class_names)} classes ({examples(system.class_names, 10)})"
    shape = " and ".join(dict.fromkeys(map(_shape, [first, *others])))
    device = str(system.device)
    if system.device.type == "cpu":
        threads = torch.get_num_threads()
        device = f"cpu, {threads} thread{'s' if threads > 1 else ''}"
    elif system.device.type == "cuda":
        device = f"{device}, {torch.cuda.get_device_name(system.device)}"
    if processes > 1:
        device = f"{processes} processes, each on {device}"
    precision = str(dtype or system.dtype).removeprefix("torch.")
    return [made_by, f"{asked.system} on {asked.data}: {images}, {shape}", f"{device}, {precision}; {weights(system)}"]


def _shape(field: Field) -> str:
    if isinstance(field, Images):
        return f"{field.width}x{field.height}, {field.channels} channel{'s' if field.channels > 1 else ''}"
    return f"of {field.size} numbers" if isinstance(field, Vectors) else str(field)


def weights(system: System) -> str:
    """ "2.1 million weights: generator 1.3, discriminator 0.8" """
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in system.named_children()}
    total = sum(counts.values())
    unit, name_of_unit = (1e6, "million") if total >= 1e6 else (1e3, "thousand")

    def short(count: int) -> str:
        return f"{count / unit:.1f}" if count < 100 * unit else f"{count / unit:.0f}"

    parts = ", ".join(f"{name} {short(count)}" for name, count in counts.items() if count)
    return f"{short(total)} {name_of_unit} weights: {parts}"


def few(system: System, images: int | None) -> str:
    """What to type where a discriminator will soon know every image by heart, "" where that is not to be expected."""
    if images is None or images >= FEW or not isinstance(system, AdversarialSystem):
        return ""
    against = {name: getattr(system.config, name) for name in system.live if name in ("augment", "r1")}
    if not against or any(against.values()) or getattr(system.config, "dropout", False):
        return ""
    if getattr(system, "makes", "image") == "vector":
        return ""
    return (
        f"{images:,} images are few: the discriminator may soon know them by heart. Against it: --set r1=1, "
        f"--set augment={AUGMENT} (Zhao et al. 2020); a run that goes on takes them, too"
    )
