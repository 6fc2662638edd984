"""How good a generator is. `evaluate` computes everything; each metric is a function of features (N, D) or images."""

from fastgan.metrics.classifier import Classifier
from fastgan.metrics.frechet import frechet_distance
from fastgan.metrics.inception import FileFeatures
from fastgan.metrics.kernel import kernel_distance
from fastgan.metrics.modes import class_balance, mixture_modes
from fastgan.metrics.neighbours import density_coverage, memorisation, nearest, precision_recall
from fastgan.metrics.path_length import path_length
from fastgan.metrics.scores import Scores, evaluate
from fastgan.metrics.sliced_wasserstein import SlicedWasserstein

__all__ = [
    "Classifier",
    "FileFeatures",
    "Scores",
    "SlicedWasserstein",
    "class_balance",
    "density_coverage",
    "evaluate",
    "frechet_distance",
    "kernel_distance",
    "memorisation",
    "mixture_modes",
    "nearest",
    "path_length",
    "precision_recall",
]
