"""The parts of a training that are not its loop, each called at its hooks."""

from fastgan.training.callbacks.base import Callback, Hooks
from fastgan.training.callbacks.checkpoints import Checkpoints
from fastgan.training.callbacks.early_stopping import EarlyStopping
from fastgan.training.callbacks.evaluation import Evaluation
from fastgan.training.callbacks.health import Health
from fastgan.training.callbacks.nonfinite import NonFiniteValues
from fastgan.training.callbacks.pace import Pace
from fastgan.training.callbacks.previews import Previews

__all__ = [
    "Callback", "Checkpoints", "EarlyStopping", "Evaluation", "Health", "Hooks", "NonFiniteValues", "Pace", "Previews",
]  # fmt: skip
