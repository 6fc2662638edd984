"""Weights & Biases, where it is installed and asked for."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fastgan.runs.run import Run
from fastgan.training.callbacks.base import Callback
from fastgan.training.loggers.base import Logger

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


class WandB(Logger, Callback):
    """`Trainer(..., loggers=[WandB(project="faces")])`. A run that goes on is the same one there.

    settings: those of `wandb.init`. ImportError where wandb is not installed.
    """

    def __init__(self, **settings: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError(
                f"values go to Weights & Biases by the package wandb, which is missing ({error}): pip install wandb"
            ) from error
        self._wandb: Any = wandb
        self._settings = settings
        self._id: str | None = settings.get("id")
        self._run: Any = None

    def open(self, run: Run, step: int) -> None:
        if self._run is None:
            given = {"name": run.path.name, "resume": "allow", **self._settings}
            self._run = self._wandb.init(**{**given, "id": self._id})
            self._id = self._run.id
            # Steps of our own: its steps never go back, as a run that was killed or has diverged does.
            self._run.define_metric("*", step_metric="step")

    def on_start(self, trainer: Trainer) -> None:
        if self._run is not None:
            self._run.config.update(trainer.config.plain(), allow_val_change=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def image(self, step: int, name: str, image: Tensor) -> None:
        self._run.log({name: self._wandb.Image(image.permute(1, 2, 0).numpy()), "step": step})

    def text(self, step: int, name: str, text: str) -> None:
        self._run.log({name: self._wandb.Html(f"<pre>{escape(text)}</pre>"), "step": step})

    def close(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish()

    def state_dict(self) -> dict[str, Any]:
        return {"id": self._id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._id = state["id"]
