"""The health of a training: what looks wrong with it is told, and treated where that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastgan.messages import log
from fastgan.training.callbacks.base import Callback
from fastgan.training.health import Symptom, Watch, diversity, remedy

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer


class Health(Callback):
    """Adds `diversity/...` to what is logged, and looks at all of it."""

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
            found = self._diversity(trainer)
            symptoms = self.watch.look(trainer.step, {**values, **found})
        for symptom in trainer.ranks.from_first(lambda: symptoms):
            if trainer.ranks.first:
                log.warning("%s", symptom)
            if trainer.config.remedy == "auto":
                _treat(trainer, symptom)
        return found

    def _diversity(self, trainer: Trainer) -> dict[str, float]:
        with trainer.aside(averaged=False):
            fake = trainer.system.sample(len(trainer.latents), latent=trainer.latents)
        found = diversity(trainer.batch[trainer.system.makes], fake)
        if not found and not self._told_alone:
            self._told_alone = True
            log.warning(
                "health: of a batch or a picture of one image nobody sees whether samples are all alike: give "
                "samples and batch_size of at least 2"
            )
        return {f"diversity/{name}": value.item() for name, value in found.items()}


def _treat(trainer: Trainer, symptom: Symptom) -> None:
    option = remedy(symptom, trainer.system)
    text = ", ".join(f"{name}={value}" for name, value in option.items())
    if trainer.ranks.first:
        log.warning("remedy from step %d on: %s", trainer.step, text or "none is left that a running training can take")
    if option:
        trainer.change(**option)
