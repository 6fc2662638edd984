"""Trains the systems of benchmarks/gallery.yaml, each within its minutes, and makes docs/gallery.md of what they can do
on pictures that they have not seen: python tools/gallery.py [--only NAME,NAME] [--minutes N]

A training ends by the time that its threads compute, so that a busy machine changes nothing. How many steps it takes,
which learning rates and stages follow, is fitted to the seconds that a step takes: after the first minute, and again
later. What is there already goes on where it stopped.
"""

from __future__ import annotations

import argparse
import bisect
import json
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gallery_page
import torch
import yaml

from fastgan import strict_json
from fastgan.bench.timing import machine
from fastgan.cli import main as fastgan
from fastgan.cli.arguments import flag
from fastgan.files import replace_file
from fastgan.options import options, text
from fastgan.options.groups import Networks
from fastgan.runs.config import Config
from fastgan.runs.making import parted
from fastgan.runs.run import Run
from fastgan.training import Callback, Trainer

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "benchmarks/gallery.yaml"
FIRST = 60.0  # seconds, or a tenth of the time, after which the steps are fitted to what one takes
FITTED = 0.5, 0.85  # of the time, when they are fitted again
PLANNED = 0.97  # of what is left: a step that takes longer than before must not cut the decay off
ENOUGH = 0.95  # of the time: not worth another start
MANY = 10**6  # steps, before it is known how many


@dataclass(frozen=True)
class Entry:
    """Of benchmarks/gallery.yaml, which says what the fields are."""

    system: str
    data: str
    minutes: float
    rows: list[int]
    options: dict[str, Any] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    later: dict[str, float] = field(default_factory=dict)
    size: int | None = None

    def schedule(self, steps: int, done: int, before: dict[str, Any]) -> dict[str, int]:
        """The options that are steps, where `steps` are trained in all.   before: what they were until now."""
        found = {}
        for name, share in self.shares.items():
            begun = name in before and before[name] <= done
            found[name] = before[name] if begun else max(round(share * steps), done)
        if "decay_from" in found:
            found["decay_steps"] = max(1, steps - found["decay_from"])
        return found

    def steps_within(self, seconds: float, done: int, before: dict[str, Any], rates: tuple[float, float]) -> int:
        """Steps in all that so many more seconds allow.   rates: seconds of a step of the first stage, and later."""

        def needed(steps: int) -> float:
            until = next((self.schedule(steps, done, before)[name] for name in self.later), steps)
            early = max(0, min(until, steps) - done)
            return early * rates[0] + (steps - done - early) * rates[1]

        return done + max(1, bisect.bisect_right(range(done + 1, MANY), seconds, key=needed))


class Clock(Callback):
    """Stops after `until` seconds of computing, those before a resume included; measures the steps of each stage."""

    name = "gallery"

    def __init__(self, later: dict[str, float], until: float = 0.0) -> None:
        self.until = until
        self.seconds = 0.0
        self._later = later
        self._known: list[float | None] = [None, None]  # seconds of a step of each stage, from before
        self._spent, self._steps = [0.0, 0.0], [0, 0]  # now

    @property
    def rates(self) -> tuple[float, float] | None:
        """Seconds of a step of the first stage, and later; None before a step was done."""
        first, then = (
            seconds / steps if steps else known for seconds, steps, known in zip(self._spent, self._steps, self._known)
        )
        times = next(iter(self._later.values()), 1.0)
        if first is None and then is None:
            return None
        return first or then / times, then or first * times

    def on_start(self, trainer: Trainer) -> None:
        self._since = _seconds()

    def on_step(self, trainer: Trainer) -> None:
        now = _seconds()
        stage = int(any(trainer.step > trainer.config.options[name] for name in self._later))
        self._spent[stage] += now - self._since
        self._steps[stage] += 1
        self.seconds += now - self._since
        self._since = now
        if self.seconds >= self.until:
            trainer.stop(f"{self.seconds:.0f} seconds have passed")

    def state_dict(self) -> dict[str, Any]:
        measured = [s / n if n else known for s, n, known in zip(self._spent, self._steps, self._known)]
        return {"seconds": self.seconds, "rates": measured}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self._known = state["seconds"], list(state["rates"])
        self._spent, self._steps = [0.0, 0.0], [0, 0]


def _seconds() -> float:
    """Of computing, a thread: what passes on a machine that does nothing else."""
    return time.process_time() / torch.get_num_threads()


def train(entry: Entry, out: Path, minutes: float, training: dict[str, Any]) -> Clock:
    """The run in `out`, begun or gone on with, until the minutes are over."""
    budget = 60 * minutes
    settings, own = parted(entry.system, {**training, **entry.options})
    while True:
        clock = Clock(entry.later)
        if not Run(out).saved:
            clock.until = min(FIRST, budget / 10)
            first = {**settings, **own, **entry.schedule(MANY, 0, {}), "steps": MANY}
            Trainer(entry.system, entry.data, out=out, callbacks=[clock], preset="quick", **first).fit()
            continue
        state, before = Run(out).read(), Run(out).asked().options
        clock.load_state_dict(state["callbacks"].get(clock.name, clock.state_dict()))
        if clock.seconds >= ENOUGH * budget:
            return clock
        marks = (min(FIRST, budget / 10), *(share * budget for share in FITTED), budget)
        clock.until = next(mark for mark in marks if clock.seconds < ENOUGH * mark)
        done, left = state["step"], PLANNED * (budget - clock.seconds)
        steps = entry.steps_within(left, done, before, clock.rates) if clock.rates else MANY
        changed = {**before, **own, **entry.schedule(steps, done, before)}
        Trainer.resume(out, callbacks=[clock], options=changed, steps=steps, **settings).fit()


def command(entry: Entry, out: Path) -> str:
    """What trains alike, with the steps that it came to."""
    asked = Run(out).asked()
    known = {each.name: each for each in (*options(Config), *options(Networks))}
    words = ["fastgan", "train", entry.system, "--data", entry.data, "--preset", "quick", "--steps", str(asked.steps)]
    named = {name: asked.options[name] for name in (*entry.shares, *entry.options) if name in asked.options}
    if "decay_from" in named:
        named["decay_steps"] = asked.options["decay_steps"]
    for name, value in {**entry.options, **named}.items():
        if name not in known:
            words += ["--set", f"{name}={text(value)}"]
        elif isinstance(value, bool):
            words.append(flag(known[name]) if value else f"--no-{flag(known[name])[2:]}")
        else:
            words += [flag(known[name]), text(value)]
    return shlex.join(words)


def show(name: str, entry: Entry, out: Path, clock: Clock, minutes: float, docs: Path) -> None:
    """Evaluates the run; docs/gallery/NAME.png and NAME.json."""
    folder = docs / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    table = out / "evaluation.json"
    if code := fastgan(["evaluate", str(out), "--json", str(table)]):
        raise RuntimeError(f"fastgan evaluate {out} ended with {code}")
    gallery_page.save_sheet(folder / f"{name}.png", out, entry.data, entry.rows, entry.size)
    found = {
        "system": entry.system, "data": entry.data, "command": command(entry, out), "minutes": minutes,
        "seconds": round(clock.seconds, 1), "steps": Run(out).read()["step"], "settings": Run(out).asked().plain(),
        "rows": entry.rows, **json.loads(table.read_text()), "machine": machine(),
    }  # fmt: skip
    replace_file(folder / f"{name}.json", (strict_json.dumps(found, indent=1) + "\n").encode())


def read(path: Path) -> tuple[dict[str, Entry], dict[str, Any]]:
    """The entries by name, and the settings of all trainings."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries = {name: Entry(**{"system": name, **entry}) for name, entry in values["systems"].items()}
    return entries, values["training"]


def chosen(entries: dict[str, Entry], only: str | None) -> list[str]:
    """ValueError for a name that is none."""
    names = list(dict.fromkeys(part.strip() for part in only.split(","))) if only is not None else list(entries)
    for name in names:
        if name not in entries:
            raise ValueError(f"the gallery has {', '.join(entries)}, not {name!r}")
    return names


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", metavar="NAME,NAME", help="these alone (default: all)")
    parser.add_argument("--minutes", type=float, help="of each training (default: what the settings say)")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="(default: benchmarks/gallery.yaml)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/gallery", help="(default: runs/gallery)")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where gallery.md goes (default: docs)")
    args = parser.parse_args(argv)
    entries, training = read(args.settings)
    try:
        names = chosen(entries, args.only)
        if args.minutes is not None and not args.minutes > 0:
            raise ValueError(f"minutes must be more than 0, not {args.minutes:g}")
    except ValueError as error:
        print(f"make gallery: {error}", file=sys.stderr)
        return 2
    failed = 0
    for name in names:
        entry, out = entries[name], args.runs / name
        minutes = args.minutes or entry.minutes
        try:
            clock = train(entry, out, minutes, training)
            show(name, entry, out, clock, minutes, args.docs)
            gallery_page.write(args.docs, list(entries))
        except KeyboardInterrupt:
            print(f"make gallery: {name} stopped; the same command goes on with it", file=sys.stderr)
            return 130
        except (ValueError, OSError, RuntimeError, ImportError, FloatingPointError) as error:
            print(f"make gallery: {name}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
