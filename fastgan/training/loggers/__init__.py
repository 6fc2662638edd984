"""Where a run writes what it logs: the terminal, log.txt, metrics.jsonl, TensorBoard, and Weights & Biases."""

from fastgan.training.loggers.base import Logger, Loggers
from fastgan.training.loggers.console import Console
from fastgan.training.loggers.jsonl import JSONL
from fastgan.training.loggers.log_file import LogFile
from fastgan.training.loggers.tensorboard import TensorBoard
from fastgan.training.loggers.wandb import WandB

__all__ = ["JSONL", "Console", "LogFile", "Logger", "Loggers", "TensorBoard", "WandB"]
