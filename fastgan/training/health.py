"""The health of a training run: what commonly goes wrong with a GAN, seen in values that are logged anyway.

Nothing here costs a step: every number is a mean that the log reads, or is computed when the log is written.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.runs.config import GRACE, HOLD
from fastgan.systems.remedies import COLLAPSE, FOOLED, OSCILLATION, STRONG, VANISHING

SPAN = 20  # looks that an oscillation is judged over


@dataclass(frozen=True)
class Symptom:
    """Something that looks wrong."""

    name: str  # of `fastgan.systems.remedies`
    seen: str  # in numbers
    since: int  # step

    def __str__(self) -> str:
        return f"{self.name} since step {self.since}: {self.seen}"


class Watch:
    """Looks at a run each time its log is written, and says each symptom once when it has lasted.

        watch = Watch()
        for symptom in watch.look(step, values): ...

    values: the means since the last look. Those of these names are understood, others ignored:
        discriminator/real_right, discriminator/fake_right   shares of the images that the discriminator tells right
        discriminator/real, discriminator/fake, discriminator/loss, generator/loss
        generator/gradient                                   the norm of all its gradients
        diversity/spread, diversity/nearest                  see `diversity`
    """

    def __init__(self) -> None:
        self._since: dict[str, tuple[int, int]] = {}  # the step and the number of looks that a sign has lasted
        self._losses: deque[float] = deque(maxlen=SPAN)
        self._largest = 0.0  # of the generator's gradient norms
        self._looks = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "since": {name: list(numbers) for name, numbers in self._since.items()},
            "losses": list(self._losses),
            "largest": self._largest,
            "looks": self._looks,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._since = {name: (int(since), int(looks)) for name, (since, looks) in state["since"].items()}
        self._losses = deque(map(float, state["losses"]), maxlen=SPAN)
        self._largest = float(state["largest"])
        self._looks = int(state["looks"])

    def look(self, step: int, values: Mapping[str, float]) -> list[Symptom]:
        """The symptoms that are told now: those that have just lasted long enough."""
        told = []
        self._looks += 1
        signs: dict[str, Callable[[Mapping[str, float]], str]] = {
            STRONG: _strong,
            VANISHING: self._vanishing,
            FOOLED: _fooled,
            COLLAPSE: _collapse,
            OSCILLATION: self._oscillation,
        }
        for name, sign in signs.items():
            seen = sign(values)
            if not seen or self._looks <= GRACE:
                self._since.pop(name, None)
                continue
            since, looks = self._since.get(name, (step, 0))
            self._since[name] = since, looks + 1
            if looks + 1 == HOLD:
                told.append(Symptom(name, seen, since))
        return told

    def _vanishing(self, values: Mapping[str, float]) -> str:
        norm = values.get("generator/gradient")
        if norm is None:
            return ""
        self._largest = max(self._largest, norm)
        if norm >= 1e-3 * self._largest:
            return ""
        return f"the norm of its gradient is {norm:.2g}, it was {self._largest:.2g}"

    def _oscillation(self, values: Mapping[str, float]) -> str:
        loss = values.get("generator/loss")
        if loss is None:
            return ""
        self._losses.append(loss)
        if len(self._losses) < SPAN:
            return ""
        losses = list(self._losses)
        turns = sum((b - a) * (c - b) < 0 for a, b, c in zip(losses, losses[1:], losses[2:]))
        swing = statistics.median(abs(b - a) for a, b in itertools.pairwise(losses))
        level = statistics.median(abs(value) for value in losses)
        # Noise about a level turns as often as a swing does, but its steps are small beside the level.
        if turns < SPAN // 2 or swing < 0.5 * level:
            return ""
        return f"the generator's loss moves by {swing:.2g} between lines of the log, about a level of {level:.2g}"


def _strong(values: Mapping[str, float]) -> str:
    real, fake = values.get("discriminator/real_right"), values.get("discriminator/fake_right")
    if real is None or fake is None or min(real, fake) < 0.995:
        return ""
    return f"it tells {100 * min(real, fake):.1f} % of the images right{_means(values)}"


def _fooled(values: Mapping[str, float]) -> str:
    real, fake = values.get("discriminator/real_right"), values.get("discriminator/fake_right")
    if real is None or fake is None or fake > 0.1:
        return ""
    # One that cannot tell the two apart at all takes both for the same, which may be real.
    if values.get("discriminator/fake", 0.0) <= values.get("discriminator/real", 0.0):
        return ""
    return f"it takes {100 * (1 - fake):.0f} % of the generated images for real{_means(values)}"


def _collapse(values: Mapping[str, float]) -> str:
    spread, nearest = values.get("diversity/spread"), values.get("diversity/nearest")
    if spread is None or nearest is None or (spread > 0.3 and nearest > 0.05):
        return ""
    return (
        f"the distance of two samples is {spread:.2f} times that of two training images, to the nearest of a batch "
        f"{nearest:.2f} times"
    )


def _means(values: Mapping[str, float]) -> str:
    real, fake = values.get("discriminator/real"), values.get("discriminator/fake")
    return "" if real is None or fake is None else f", D(x) = {real:.2f} and D(G(z)) = {fake:.2f}"


@torch.no_grad()
def diversity(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """How much samples differ, beside how much as many training images do; 1: as much. Scalars on the device.

    spread: the mean distance of two samples.   nearest: the median distance to the nearest other sample of the batch.
    Distances are those of images shrunk to 8x8, where it is shapes and colours that differ, not noise.

    real, fake: (N, C, H, W), or points (N, D). Nothing where one of them is a single one, which differs from no other.
    """
    count = min(len(real), len(fake))
    if count < 2:
        return {}
    features = [_shrunk(images[:count]) for images in (real, fake)]
    values = []
    for rows in features:
        distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        others = distances + torch.diag(torch.full((count,), torch.inf, device=rows.device))
        values.append((distances.sum() / (count * (count - 1)), others.amin(1).median()))
    (spread, nearest), (fake_spread, fake_nearest) = values
    tiny = torch.finfo(spread.dtype).tiny
    return {"spread": fake_spread / spread.clamp(min=tiny), "nearest": fake_nearest / nearest.clamp(min=tiny)}


def _shrunk(images: Tensor) -> Tensor:
    if images.dim() == 2:  # points
        return images.float()
    height, width = images.shape[2:]
    return F.adaptive_avg_pool2d(images.float(), (min(8, height), min(8, width))).flatten(1)
