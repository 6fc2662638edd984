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

from fastgan.runs.config import GRACE, hold
from fastgan.systems.remedies import COLLAPSE, COPIES, FOOLED, HIDDEN, OSCILLATION, STRONG, UNEVEN, VANISHING

SPAN = 20  # looks that an oscillation is judged over
# Of systems that translate:
CHANGED = 0.1  # share of the change that is wanted, below which a translation is a copy
RECOGNIZED = 0.75  # share of the copies that a discriminator tells right: of fewer they may be what is wanted
TIMES, LEVELS = 2.0, 0.02  # what noise adds to the error of a cycle that hides something: so many times it, and as much
FAR, SURE = 0.25, 0.9  # shares that two discriminators tell right: their distance, and the one of the better


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
        diversity/spread, diversity/nearest                  see `fastgan.systems.signs.diversity`
        changed/EXAMPLE, cycle/EXAMPLE, noisy_cycle/EXAMPLE  see `change` and `hiding` there
        .../real_right_X, .../fake_right_X                   of the discriminator X where there are several
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
            COPIES: _copies,
            HIDDEN: _hidden,
            UNEVEN: _uneven,
        }
        for name, sign in signs.items():
            seen = sign(values)
            if not seen or self._looks <= GRACE:
                self._since.pop(name, None)
                continue
            since, looks = self._since.get(name, (step, 0))
            self._since[name] = since, looks + 1
            if looks + 1 == hold(name):
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


def _copies(values: Mapping[str, float]) -> str:
    changes = {name.removeprefix("changed/"): value for name, value in values.items() if name.startswith("changed/")}
    if not changes or min(changes.values()) >= CHANGED:
        return ""
    told = [value for name, value in values.items() if name.rpartition("/")[2].startswith("fake_right")]
    if told and max(told) < RECOGNIZED:
        return ""
    example = min(changes, key=changes.__getitem__)
    return f"{example}: pictures change by {changes[example]:.2f} of what is wanted of them"


def _hidden(values: Mapping[str, float]) -> str:
    """The worst example of those that hide something."""
    found = {}
    for name, error in values.items():
        noisy = values.get(f"noisy_{name}")
        if name.startswith("cycle/") and noisy is not None and noisy - error > max(LEVELS, (TIMES - 1) * error):
            found[name.removeprefix("cycle/")] = error, noisy
    if not found:
        return ""
    example, (error, noisy) = max(found.items(), key=lambda item: item[1][1] - item[1][0])
    return (
        f"{example}: after both ways the L1 in [0, 1] is {error:.3f}, and {noisy:.3f} where the picture between has "
        "noise of two gray levels that nobody sees"
    )


def _uneven(values: Mapping[str, float]) -> str:
    shares: dict[str, list[float]] = {}
    for name, value in values.items():
        for kind in ("real_right_", "fake_right_"):
            if name.rpartition("/")[2].startswith(kind):
                shares.setdefault(name.rpartition("/")[2].removeprefix(kind), []).append(value)
    means = {name: statistics.mean(both) for name, both in shares.items()}
    if len(means) < 2:
        return ""
    worse, better = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    if means[better] < SURE or means[better] - means[worse] < FAR:
        return ""
    return (
        f"the discriminator {better} tells {100 * means[better]:.0f} % of the pictures right, {worse} "
        f"{100 * means[worse]:.0f} %"
    )
