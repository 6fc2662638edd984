"""How good a generator is. `evaluate` computes everything; each metric is a function of features (N, D) or images.

Importing this package imports nothing else: everything below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgan.metrics.classifier import Classifier
    from fastgan.metrics.frechet import frechet_distance
    from fastgan.metrics.inception import FileFeatures
    from fastgan.metrics.kernel import kernel_distance
    from fastgan.metrics.latent_path import path_length
    from fastgan.metrics.modes import class_balance, mixture_modes
    from fastgan.metrics.neighbours import density_coverage, memorisation, nearest, precision_recall
    from fastgan.metrics.pretrained import PretrainedFeatures
    from fastgan.metrics.registry import Metric, register
    from fastgan.metrics.scores import Scores, evaluate
    from fastgan.metrics.sliced_wasserstein import SlicedWasserstein

_NAMES = {
    "Classifier": "classifier",
    "FileFeatures": "inception",
    "Metric": "registry",
    "PretrainedFeatures": "pretrained",
    "Scores": "scores",
    "SlicedWasserstein": "sliced_wasserstein",
    "class_balance": "modes",
    "density_coverage": "neighbours",
    "evaluate": "scores",
    "frechet_distance": "frechet",
    "kernel_distance": "kernel",
    "memorisation": "neighbours",
    "mixture_modes": "modes",
    "nearest": "neighbours",
    "path_length": "latent_path",
    "precision_recall": "neighbours",
    "register": "registry",
}

__all__ = [
    "Classifier",
    "FileFeatures",
    "Metric",
    "PretrainedFeatures",
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
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'fastgan.metrics' has no attribute {name!r}")
    value = getattr(import_module(f"fastgan.metrics.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
