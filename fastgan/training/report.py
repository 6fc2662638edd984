"""What a run shows: progress bar, metrics.jsonl, TensorBoard, sample grids."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from fastgan.data import grid, save_png
from fastgan.training.run import Run

log = logging.getLogger("fastgan")


class Report:
    """Open while a run trains, from `step` towards `steps`. Values of later steps, from a run that was killed after
    its last checkpoint, are forgotten; their pictures will be overwritten by the same ones."""

    def __init__(self, run: Run, *, step: int, steps: int, batch_size: int) -> None:
        self._samples = run.samples
        self._batch_size = batch_size
        _forget_after(step, run.metrics)
        self._metrics = open(run.metrics, "a", buffering=1)  # noqa: SIM115 (closed in __exit__)
        self._writer = _tensorboard(run, step)
        self._bar = tqdm(
            total=steps * batch_size,
            initial=step * batch_size,
            unit="img",
            unit_scale=True,
            mininterval=0.5 if sys.stderr.isatty() else 10,  # seconds; a log file wants few lines
            dynamic_ncols=True,
        )
        self._since = step, time.perf_counter()

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        self._metrics.close()
        if self._writer is not None:
            self._writer.close()

    def advance(self) -> None:
        """One more step is done."""
        self._bar.update(self._batch_size)

    def values(self, step: int, values: dict[str, float]) -> None:
        then, since = self._since
        now = time.perf_counter()
        speed = (step - then) * self._batch_size / (now - since)
        self._since = step, now
        self._metrics.write(json.dumps({"step": step, **values, "images_per_second": round(speed, 1)}) + "\n")
        losses = [f"{name.removesuffix('/loss')} {value:.3f}" for name, value in values.items() if "/loss" in name]
        self._bar.set_postfix_str(", ".join([f"step {step}", *losses]), refresh=False)
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.add_scalar("images_per_second", speed, step)

    def picture(self, step: int, image: Tensor) -> None:
        """`image`: uint8 (C, H, W)"""
        save_png(self._samples / f"step-{step:06d}.png", image)
        if self._writer is not None:
            self._writer.add_image("samples", image, step)


def picture(images: Tensor, columns: int | None = None) -> Tensor:
    """A grid of (N, C, H, W) images in [-1, 1], uint8 on the CPU. Of channels that no PNG shows, the first one."""
    return grid(images if images.shape[1] in (1, 3) else images[:, :1], columns=columns).cpu()


def _forget_after(step: int, metrics: Path) -> None:
    if not metrics.exists():
        return
    lines = metrics.read_text(errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
    if kept != lines:
        temporary = metrics.with_name(f".{metrics.name}.tmp")
        temporary.write_text("".join(kept))
        os.replace(temporary, metrics)


def _step(line: str) -> float:
    """Of a line of metrics.jsonl; infinity for one that a kill or a loss of power left unreadable."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


def _tensorboard(run: Run, step: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where TensorFlow is installed, tensorboard imports it
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("tensorboard is not installed (pip install tensorboard): no event files, metrics.jsonl has the values")
        return None
    return SummaryWriter(str(run.tensorboard), purge_step=step + 1)
