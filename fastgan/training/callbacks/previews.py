"""Pictures of a training: what it makes, again and again from the same probe, and the film of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fastgan.data import Points, enlarged, grid, save_png, scatter
from fastgan.data.movie import film
from fastgan.messages import log
from fastgan.systems.adversarial import AdversarialSystem
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
            with writing(trainer.run.real):
                save_png(trainer.run.real, seen(trainer))
        step, asked = trainer.step, trainer.config
        if trainer.due(asked.sample_every) or step == asked.steps or (step in EARLY and step < asked.sample_every):
            trainer.means.read(step)  # of a run that has diverged, say so instead of drawing it
            if trainer.ranks.first:
                self._draw(trainer)

    def on_end(self, trainer: Trainer, error: BaseException | None) -> None:
        if self._drawn and (error is None or isinstance(error, Exception)):  # else: asked to end at once
            _film(trainer)

    def _draw(self, trainer: Trainer) -> None:
        image = trainer.preview()
        path = trainer.run.samples / f"step-{trainer.step:06d}.png"
        with writing(path):
            save_png(path, image)
        trainer.loggers.image(trainer.step, "samples", image)
        self._drawn = True


def picture(images: Tensor, data: Any = None, columns: int | None = None) -> Tensor:
    """A grid of (N, C, H, W) images, uint8 on the CPU, large enough to be seen; what lies beyond [-1, 1] is clamped. Of
    channels that no PNG shows, the first one. Points of the plane as dots, with those of `data` behind them."""
    if images.dim() == 2:
        return scatter(images, data.points if isinstance(data, Points) else None)
    shown = (images if images.shape[1] in (1, 3) else images[:, :1]).clamp(-1, 1)
    return enlarged(grid(shown, columns).cpu())


def seen(trainer: Trainer) -> Tensor:
    """The images of the last step as the discriminator saw them, flipped and augmented, as one picture."""
    images = trainer.batch[trainer.system.makes][: len(trainer.latents)].float()
    if isinstance(trainer.system, AdversarialSystem):
        with trainer.aside(averaged=False), torch.no_grad():
            images = trainer.system.augment(images)
    return picture(images)


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
