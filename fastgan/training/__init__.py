"""The trainer and its parts."""

from fastgan.training.config import Config, Settings
from fastgan.training.run import load
from fastgan.training.step import GraphedStep, Step
from fastgan.training.trainer import Trainer

__all__ = ["Config", "GraphedStep", "Settings", "Step", "Trainer", "load"]
