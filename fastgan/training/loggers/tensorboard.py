"""TensorBoard's event files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastgan.messages import log
from fastgan.runs.run import Run
from fastgan.training.loggers.base import Logger


class TensorBoard(Logger):
    """Where tensorboard is installed. Its writer is a thread: what fails there surfaces at a later call."""

    _writer: Any = None

    def open(self, run: Run, step: int) -> None:
        self.close()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where TensorFlow is installed, tensorboard imports it
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.info(
                "tensorboard is not installed (pip install tensorboard): no event files, metrics.jsonl has the values"
            )
            return
        self._writer = SummaryWriter(str(run.tensorboard), purge_step=step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items() if self._writer else ():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: Tensor) -> None:
        if self._writer:
            self._writer.add_image(name, image, step)

    def text(self, step: int, name: str, text: str) -> None:
        if self._writer:
            self._writer.add_text(name, text, step)

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer:
            writer.close()
