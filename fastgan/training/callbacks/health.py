"""The health of a training: what looks wrong with it is told, and treated where that was asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastgan.messages import log
from fastgan.options import options
from fastgan.systems import System
from fastgan.systems.remedies import Remedy
from fastgan.training.callbacks.base import Callback
from fastgan.training.health import Symptom, Watch

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


class Health(Callback):
    """Adds what the system says of itself (`System.signs`) to what is logged, and looks at all of it."""

    name = "health"

    def __init__(self) -> None:
        self.watch = Watch()
        self._told_alone = False  # that samples cannot be compared

    def state_dict(self) -> dict[str, Any]:
        return self.watch.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.watch.load_state_dict(state)

    def on_log(self, trainer: Trainer, values: Mapping[str, float]) -> Mapping[str, float]:
        found: dict[str, float] = {}
        symptoms: list[Symptom] = []
        if trainer.ranks.first:
            found = self._signs(trainer, values)
            symptoms = self.watch.look(trainer.step, {**values, **found})
        for symptom in trainer.ranks.from_first(lambda: symptoms):
            if trainer.ranks.first:
                log.warning("%s%s", symptom, advice(trainer.system.remedies(symptom.name)))
            if trainer.config.remedy == "auto":
                _treat(trainer, symptom)
        return found

    def _signs(self, trainer: Trainer, values: Mapping[str, float]) -> dict[str, float]:
        with trainer.aside(averaged=False):
            found = trainer.system.signs(trainer.batch, trainer.probe, values)
        if found is None and not self._told_alone:
            self._told_alone = True
            log.warning(
                "health: of a batch or a picture of one image nobody sees whether samples are all alike: give "
                "samples and batch_size of at least 2"
            )
        return {name: value.item() for name, value in (found or {}).items()}


def advice(remedies: Sequence[Remedy]) -> str:
    """ ". Remedies: ..., ...; in a new run: ..." """
    now, anew = ([str(remedy) for remedy in remedies if remedy.anew is wanted] for wanted in (False, True))
    return (f". Remedies: {', '.join(now)}" if now else "") + (f"; in a new run: {', '.join(anew)}" if anew else "")


def _treat(trainer: Trainer, symptom: Symptom) -> None:
    remedy = first(trainer.system, symptom.name)
    if trainer.ranks.first:
        log.warning(
            "remedy from step %d on: %s", trainer.step, remedy or "none is left that a running training can take"
        )
    if remedy is not None and remedy.options:
        trainer.change(**remedy.options)


def first(system: System, symptom: str) -> Remedy | None:
    """The first remedy that the system takes while it is trained, and has not taken yet."""
    config: Any = type(system.config)
    unset = {each.name: each.default for each in options(config)}
    for remedy in system.remedies(symptom):
        given = dict(remedy.options or {})
        if given and all(name in system.live and getattr(system.config, name) == unset[name] for name in given):
            with suppress(ValueError):  # of one that has no part in this system
                dataclasses.replace(system.config, **given)
                return remedy
    return None
