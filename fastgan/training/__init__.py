"""The trainer and its parts."""

from fastgan.training.run import load
from fastgan.training.step import Step
from fastgan.training.trainer import Settings, Trainer

__all__ = ["Settings", "Step", "Trainer", "load"]
