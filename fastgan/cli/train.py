"""fastgan train: train a system on a data set, or go on with a run."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import Any

from fastgan.cli.arguments import add_options, flag
from fastgan.options import build, from_text, known_as, options
from fastgan.options.groups import Networks
from fastgan.runs.settings import Config, Settings

# Of a run's configuration, those that are not said otherwise here, and whose they are.
RUN = [each for each in options(Config) if each.name not in ("system", "options")]
OF_TRAINING = {each.name for each in options(Settings)}


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        usage="fastgan train SYSTEM [--data NAME] [--out DIR] [options] | fastgan train --config FILE [options]\n"
        "       | fastgan train --resume RUN [--steps N] [options]",
        help="train a system on a data set, or resume a run",
        description="Train a system on a data set. Ctrl-C saves a checkpoint; --resume goes on from the last one. "
        "On K processes or GPUs: torchrun --nproc-per-node=K -m fastgan train ...",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "system", nargs="?", help="such as dcgan; `fastgan systems` lists them, `fastgan systems dcgan` its options"
    )
    parser.add_argument("--system", metavar="FILE:CLASS", help="of your own system, as my.py:MyGAN, which runs")
    parser.add_argument("--out", help="directory of the run (default: runs/SYSTEM-DATA)")
    parser.add_argument("--config", metavar="FILE", help="options from a YAML file, such as the config.yaml of a run")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this directory")
    parser.add_argument(
        "--continue", action="store_true", dest="again", help="go on with the run in --out, where there is one already"
    )
    parser.add_argument(
        "--preset",
        choices=("quick", "paper"),
        help="options for minutes on a CPU, or the paper's; what you give yourself comes first "
        "(default: quick without a GPU, else paper)",
    )
    add_options(parser, [each for each in RUN if each.name not in OF_TRAINING])
    parser.add_argument(
        "--target",
        metavar="DATA",
        help="a second data set: pairs of equal names or another domain, as the system wants",
    )
    add_options(parser.add_argument_group("training"), options(Settings))
    system = parser.add_argument_group("system", "what is not given follows from the data, the preset, or its paper")
    add_options(system, options(Networks), defaults=False)
    system.add_argument("--set", action="append", metavar="KEY=VALUE", help="any other option, as --set slope=0.1")


def run(args: argparse.Namespace) -> int:
    given = vars(args)
    if "target" in given:
        given["data"] = _with_target(given)
    build(Config, _settings(given), "")
    from fastgan.distributed import join, leave
    from fastgan.runs.run import quoted
    from fastgan.systems import Translator

    ranks = join(given.get("device", "auto"))
    trainer = _resumed(given) if "resume" in given else _started(given, ranks)
    steps = trainer.config.steps
    done = trainer.finished
    if not done:
        trainer.command = shlex.join(["fastgan", *args.words])
        trainer.fit(steps)
    if ranks.first and done:
        print(f"{trainer.run.path} has done its {steps} steps; --steps N with a larger N trains it on")
    elif ranks.first:
        run, kind = quoted(trainer.run.path), trainer.system
        used = f"`fastgan sample {run}` draws from it"
        if isinstance(kind, Translator):
            used = f"`fastgan translate {run} PICTURES --out DIR` uses it"
        print(f"{trainer.run.path}: {trainer.step} steps done; {used}")
    if ranks.count > 1:
        ranks.gather(None)  # all have come here
        leave(0)
    return 0


def _resumed(given: dict[str, Any]) -> Any:
    if "init_from" in given:
        raise ValueError(
            "--init-from does not go with --resume, which goes on with the run's own weights: give a new run --out DIR"
        )
    for name in ("out", "config", "preset"):
        if name in given:
            raise ValueError(f"--{name} does not go with --resume: the run has its own ({given['resume']}/config.yaml)")
    return _again(given["resume"], given)


def _again(out: str, given: dict[str, Any]) -> Any:
    from fastgan.runs.run import Run
    from fastgan.training import Trainer

    changes = _settings(given)
    if "set" in given or any(each.name in given for each in options(Networks)):
        asked = Run(out).asked()
        changes["options"] = {**asked.options, **_options(given, given.get("system", asked.system))}
    return Trainer.resume(out, **changes)


def _started(given: dict[str, Any], ranks: Any) -> Any:
    import dataclasses

    from fastgan.data.registry import absolute
    from fastgan.runs import config
    from fastgan.runs.run import Run
    from fastgan.systems import names
    from fastgan.systems.registry import find
    from fastgan.training import Trainer

    if "config" in given and "preset" in given:
        raise ValueError(f"--preset does not go with --config: {given['config']} says what to train with")
    values = config.read(given["config"]) if "config" in given else {}
    values = {**values, **_settings(given)}
    if "system" not in values:
        raise ValueError(
            f"which system? fastgan train SYSTEM ({', '.join(names())}), fastgan train --config FILE, or fastgan train "
            "--resume RUN"
        )
    values.setdefault("data", find(values["system"]).trains_on)
    values["options"] = {**values.get("options", {}), **_options(given, values["system"])}
    asked = config.make(values, given.get("config", "fastgan train"))
    asked = dataclasses.replace(asked, data=absolute(asked.data))
    out = given.get("out", f"runs/{find(asked.system).name}-{_slug(asked.data)}")
    # torchrun starts all processes again, by the same command, when one has died.
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    if (given.get("again") or restarted) and ranks.from_first(lambda: Run(out).saved):
        return _again(out, {name: value for name, value in given.items() if name != "init_from"})
    decided = {name: value for name, value in values.items() if name not in ("system", "data", "options")}
    # A configuration says everything; where it does not, the defaults are the paper's.
    name = given.get("preset", "paper" if "config" in given else None)
    return Trainer(asked.system, asked.data, out=out, preset=name, **{**asked.options, **decided})


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("system", *(each.name for each in RUN)) if name in given}


def _options(given: dict[str, Any], system: str) -> dict[str, Any]:
    """Those of the system, each of the type that it has there."""
    from fastgan.systems.registry import find

    texts = {}
    for assignment in given.get("set", []):
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE, as --set slope=0.1, not {assignment!r}")
        texts[key.strip()] = value
    accepted: Any = find(system).Config
    run = {each.name: each for each in RUN}
    for key in texts:
        name = known_as(key)
        if name in run and key not in accepted.__dataclass_fields__:
            raise ValueError(f"{key} is no option of {system}, but of the training: {flag(run[name])}")
    here = {each.name: given[each.name] for each in options(Networks) if each.name in given}
    return {**here, **from_text(accepted, texts, f"system {system}")}


def _with_target(given: dict[str, Any]) -> str:
    """The name of two data sets."""
    from fastgan.data.sources.names import TO

    if "data" not in given:
        raise ValueError("--target goes with --data, which names the other data set: give both")
    return f"{given['data']}{TO}{given['target']}"


def _slug(data: str) -> str:
    """A data set's name as part of a directory's; of two data sets, both."""
    names = "-".join(Path(name).name for name in data.split("=>"))
    return re.sub(r"[^\w.-]+", "-", names).strip("-") or "data"
