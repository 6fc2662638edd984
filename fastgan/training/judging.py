"""By what a run chooses its best checkpoint, and on which pictures."""

from __future__ import annotations

from typing import Any

from fastgan.data.fields import Batch
from fastgan.data.fitting import fitted
from fastgan.data.kept import kept
from fastgan.data.source import Brought, Tensors, source_of
from fastgan.messages import log
from fastgan.metrics import registry, translation
from fastgan.runs.settings import AUTO, Config
from fastgan.systems import System, Translator

NO_TRUTH = System.best_by


def metric_of(system: System, asked: Config, source: Any, probe: Batch) -> str:
    """The metric of a new run, in place of `auto` that of its system, where its data have the truth it needs.

    probe: rows of the data.   ValueError for a metric that cannot be had of the system on these data.
    """
    name = system.best_by if asked.metric == AUTO else asked.metric
    if name == "convergence":
        if type(system).convergence is System.convergence:
            raise ValueError(
                f"metric convergence is measured by systems such as simgan; {system.name} needs another one"
            )
        return name
    metric = registry.find(name)
    if "truth" not in metric.needs:
        return name
    lacking = _lacking(metric, system, source, asked, probe)
    if lacking and asked.metric == AUTO:
        return NO_TRUTH
    if lacking:
        without = [each for each in registry.best_by() if "truth" not in registry.find(each).needs]
        raise ValueError(
            f"metric {name} needs {lacking}, which {system.name} on {asked.data} has not: take one of "
            f"{', '.join(without)}, not {name}"
        )
    return name


def judged_on(source: Any, asked: Config) -> Any:
    """The pictures that translations are judged on: the part of the data that is kept for the test, and where the
    training sees that, or there is none, those that it is trained on, `source`."""
    found = _unseen(source, asked)
    if found is None:
        log.info("%s is of pictures that the run is trained on: its data have no part for the test", asked.metric)
    return source if found is None else found


def _unseen(source: Any, asked: Config) -> Any:
    if isinstance(source, Brought | Tensors):  # which have no name that is theirs
        return None
    try:
        found = kept(asked.data, asked.white)
    except (ValueError, OSError, ImportError):  # made in Python
        return None
    return None if found.seen else found.data


def _lacking(metric: registry.Metric, system: System, source: Any, asked: Config, probe: Batch) -> str:
    """What the metric needs of a system that translates, and has not."""
    lacking = ["truth"]
    if isinstance(system, Translator):
        few = probe.map(lambda values: values[:2].cpu())
        lacking = translation.lacks(system, few, metric)
        if "truth" in lacking and asked.metric != AUTO and (test := _unseen(source, asked)) is not None:
            paired = translation.drawn_together(system, source_of(fitted(test, system.inputs())))
            lacking = translation.lacks(system, few, metric, paired)
    return " and ".join(registry.NEEDS[need] for need in lacking)
