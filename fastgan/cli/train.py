"""fastgan train: train a system on a data set, or go on with a run."""

from __future__ import annotations

import argparse
import ast
from typing import Any

STEPS = 2000
SETTINGS = ("batch_size", "seed", "precision", "ema", "samples", "sample_every", "checkpoint_every", "log_every")
CONFIG = ("resolution", "channels", "width", "learning_rate")
NOT_WITH_RESUME = ("system", "data", "out", "set", "flip", "channels_last", *SETTINGS, *CONFIG)


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "train",
        usage="fastgan train SYSTEM [--data NAME] [--out DIR] [options] | fastgan train --resume RUN [--steps N]",
        help="train a system on a data set, or resume a run",
        description="Train a system on a data set. Ctrl-C saves a checkpoint; --resume goes on from the last one.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("system", nargs="?", help="what `fastgan systems` lists, such as dcgan")
    parser.add_argument("--data", help="data set (default: digits)")
    parser.add_argument("--out", help="directory of the run (default: runs/SYSTEM-DATA)")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this directory; takes --steps, --device")
    parser.add_argument("--steps", type=int, help=f"steps in all, from the beginning of the run (default: {STEPS})")
    parser.add_argument("--device", help="auto (default), cpu, cuda, cuda:1")
    system = parser.add_argument_group("system", "defaults are those of its paper")
    system.add_argument("--resolution", type=int, help="pixels a side (default: the data's, at least 32)")
    system.add_argument("--channels", type=int, help="1 or 3 (default: the data's)")
    system.add_argument("--width", type=int, help="channels of the largest maps")
    system.add_argument("--lr", type=float, dest="learning_rate", help="learning rate")
    system.add_argument("--set", action="append", metavar="KEY=VALUE", help="any other option, as --set slope=0.1")
    run = parser.add_argument_group("run")
    run.add_argument("--batch-size", type=int, help="images (default: 64)")
    run.add_argument("--seed", type=int, help="of weights, latents and the order of images (default: 0)")
    run.add_argument("--precision", help="auto (default), float32, bfloat16")
    run.add_argument("--flip", action="store_true", help="mirror half of the images")
    run.add_argument("--no-channels-last", action="store_false", dest="channels_last", help="keep NCHW layout")
    run.add_argument("--ema", type=float, help="decay of the generator's moving average; 0: none (default: 0.999)")
    run.add_argument("--samples", type=int, help="images in a sample grid (default: 64)")
    run.add_argument("--sample-every", type=int, help="steps between sample grids (default: 200)")
    run.add_argument("--checkpoint-every", type=int, help="steps between checkpoints (default: 200)")
    run.add_argument("--log-every", type=int, help="steps between logged values (default: 20)")


def run(args: argparse.Namespace) -> int:
    given = vars(args)
    if given.get("steps", 1) < 1:
        raise ValueError(f"--steps must be at least 1, not {given['steps']}")
    if not 0 <= given.get("seed", 0) < 2**63:
        raise ValueError(f"--seed must lie in 0..2**63 - 1, not {given['seed']}")
    trainer = _resumed(given) if "resume" in given else _started(given)
    steps = given.get("steps", trainer.steps or STEPS)
    if trainer.step == steps:
        print(f"{trainer.run.path} has done its {steps} steps; --steps N with a larger N trains it on")
        return 0
    trainer.fit(steps)
    print(f"{trainer.run.path}: {trainer.step} steps done; `fastgan sample {trainer.run.path}` draws from it")
    return 0


def _resumed(given: dict[str, Any]) -> Any:
    from fastgan.training import Trainer

    mistaken = [name for name in NOT_WITH_RESUME if name in given]
    if mistaken:
        raise ValueError(
            f"--resume takes the run's own settings; only --steps and --device go with it, not {', '.join(mistaken)}"
        )
    return Trainer.resume(given["resume"], device=given.get("device", "auto"))


def _started(given: dict[str, Any]) -> Any:
    import torch

    from fastgan import data as datasets
    from fastgan.systems import create, names
    from fastgan.training import Trainer

    if "system" not in given:
        raise ValueError(f"which system? fastgan train SYSTEM ({', '.join(names())}), or fastgan train --resume RUN")
    data = datasets.load(given.get("data", "digits"), channels=given.get("channels"))
    config = {name: given[name] for name in CONFIG if name in given}
    config.setdefault("channels", data.images.shape[1])
    config.setdefault("resolution", max(32, 1 << (min(data.images.shape[2:]).bit_length() - 1)))
    for assignment in given.get("set", []):
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE, as --set slope=0.1, not {assignment!r}")
        config[key] = _literal(value)
    torch.manual_seed(given.get("seed", 0))
    system = create(given["system"], **config)
    return Trainer(
        system,
        data.with_channels(config["channels"]).resize(config["resolution"]),
        out=given.get("out", f"runs/{given['system']}-{data.name}"),
        device=given.get("device", "auto"),
        **{name: given[name] for name in (*SETTINGS, "flip", "channels_last") if name in given},
    )


def _literal(text: str) -> Any:
    """A number, true/false, none or a tuple where it reads as one, else the text itself."""
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        return text
