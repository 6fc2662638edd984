"""The trainer and its parts."""

from fastgan.training.config import Config, Settings
from fastgan.training.run import load
from fastgan.training.step import Step
from fastgan.training.trainer import Trainer

__all__ = ["Config", "Settings", "Step", "Trainer", "load"]
