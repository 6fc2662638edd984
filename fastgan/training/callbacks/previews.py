"""Pictures of a training: what it makes, again and again from the same probe, and the film of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastgan.data import save_png
from fastgan.data.movie import film
from fastgan.data.pictures import draw
from fastgan.messages import log
from fastgan.training.callbacks.base import Callback
from fastgan.training.loggers.base import writing

if TYPE_CHECKING:
    from fastgan.training.trainer import Trainer

EARLY = (10, 25, 50, 100)  # steps after which samples are drawn where `sample_every` is longer


class Previews(Callback):
    """Draws every `sample_every` steps, after a few early ones, which tell soon that something is learned, and after
    the last. Once a run, what the networks see of the data."""

    def on_start(self, trainer: Trainer) -> None:
        self._drawn = False
        self._first = trainer.ranks.first and not trainer.run.real.exists()

    def on_step(self, trainer: Trainer) -> None:
        if self._first:
            self._first = False
            _draw_data(trainer)
        step, asked = trainer.step, trainer.config
        if trainer.due(asked.sample_every) or step == asked.steps or (step in EARLY and step < asked.sample_every):
            trainer.means.read(step)  # of a run that has diverged, say so instead of drawing it
            if trainer.ranks.first:
                self._draw(trainer)

    def on_end(self, trainer: Trainer, error: BaseException | None) -> None:
        if self._drawn and (error is None or isinstance(error, Exception)):  # else: asked to end at once
            _film(trainer)

    def _draw(self, trainer: Trainer) -> None:
        with trainer.aside():
            panels = trainer.system.show(trainer.probe)
        for index, panel in enumerate(panels):
            if panel.parts:
                image = draw(panel)
                name = "" if index == 0 else f"-{panel.name.replace(' ', '-')}"
                path = trainer.run.samples / f"step-{trainer.step:06d}{name}.png"
                with writing(path):
                    save_png(path, image)
                trainer.loggers.image(trainer.step, panel.name, image)
            if panel.texts:
                trainer.loggers.text(trainer.step, panel.name, "\n".join(panel.texts))
        self._drawn = True


def _draw_data(trainer: Trainer) -> None:
    """What the networks saw of the last batch, as real.png; of further fields as real-NAME.png."""
    with trainer.aside(averaged=False):
        panels = trainer.system.seen(trainer.batch, trainer.probe.count)
    for index, panel in enumerate(panels):
        path = trainer.run.real
        path = path if index == 0 else path.with_name(f"real-{panel.name}.png")
        with writing(path):
            save_png(path, draw(panel))


def _film(trainer: Trainer) -> None:
    """Of the pictures so far. Not worth a run: what goes wrong is a warning."""
    path = trainer.run.path / "training.gif"
    pictures = trainer.run.samples.glob("step-*.png")
    files = {int(file.stem[5:]): file for file in pictures if file.stem[5:].isdecimal()}
    steps = sorted(step for step in files if step <= trainer.step)
    if len(steps) > 1:
        try:
            film([files[step] for step in steps], path)
        except (OSError, ValueError) as error:
            log.warning("%s was not written: %s", path, error)
