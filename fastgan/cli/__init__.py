"""The `fastgan` command. Each command is a module with `add(subparsers)` and `run(args) -> exit code or None`, and
imports what it needs of PyTorch inside `run`, so that `fastgan --help` answers at once."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from fastgan import __version__
from fastgan.messages import heard_by
from fastgan.options import groups, known_as, nearest, options

COMMANDS = (
    "train", "sample", "translate", "augment", "interpolate", "arithmetic", "project", "evaluate", "report", "export",
    "explain", "systems", "weights", "bench", "doctor",
)  # fmt: skip
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class _Parser(argparse.ArgumentParser):
    def __init__(self, **settings: Any) -> None:
        # An abbreviation would change its meaning with the next option that begins alike.
        super().__init__(allow_abbrev=False, **settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for a mistake of the user's (one line on stderr), 130 after Ctrl-C.

    FASTGAN_DEBUG=1 shows the traceback instead of the line.
    """
    parser = _Parser(
        prog="fastgan",
        description="Faster training of generative adversarial networks.",
        epilog="FASTGAN_DEBUG=1 in the environment shows the traceback of an error, not only its message.",
    )
    parser.add_argument("--version", action="version", version=f"fastgan {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="command", parser_class=_Parser)
    commands = {name: import_module(f"fastgan.cli.{name}") for name in COMMANDS}
    for command in commands.values():
        command.add(subparsers)
    args, unknown = parser.parse_known_args(argv)
    chosen = subparsers.choices[args.command] if args.command else parser
    if unknown:
        chosen.error(f"no option {' '.join(unknown)}{_meant(unknown, chosen)}; --help lists them")
    if not args.command:
        parser.print_help()
        return 0
    args.words = list(sys.argv[1:] if argv is None else argv)
    try:
        with heard_by(_shown, shows=True):
            return commands[args.command].run(args) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # fastgan systems | head -1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, RuntimeError) as error:
        if os.environ.get("FASTGAN_DEBUG", "0") != "0":
            raise
        rank = os.environ.get("RANK", "0")
        print(f"fastgan: error: {'' if rank == '0' else f'rank {rank}: '}{_reason(error)}", file=sys.stderr)
        return 2


def _shown(record: logging.LogRecord) -> None:
    """Messages of FastGAN, and of nobody else, on stderr; of several processes the first one's."""
    if os.environ.get("RANK", "0") == "0" and sys.stderr is not None:
        print(record.getMessage(), file=sys.stderr, flush=True)


def _meant(unknown: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """ " (did you mean --steps?)", or nothing."""
    word = next((word for word in unknown if word.startswith("-")), "").partition("=")[0].lstrip("-").replace("-", "_")
    if not word:
        return ""
    flags = {
        name.lstrip("-").replace("-", "_"): name
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--")
    }
    flags |= {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}
    name = known_as(word)
    if name in flags:
        passes = ", which are batches, not passes over the data" if "epoch" in word else ""
        return f" (did you mean {flags[name]}{passes}?)"
    if "set" in flags and any(name == each.name for family in groups.ALL for each in options(family)):
        return f" (did you mean --set {name}=VALUE?)"
    return re.sub(r"\w{2,}(?= or |\?)", lambda found: flags.get(found[0], found[0]), nearest(word, flags))


def _reason(error: Exception) -> str:
    text = str(error)
    if "allocate memory" in text or type(error).__name__ == "OutOfMemoryError":  # RuntimeErrors of torch
        size = re.search(r"[Tt]ried to allocate ([\d.]+ ?\w+)", text)
        wanted = f" (it asked for {size[1]} more)" if size else ""
        return f"not enough memory{wanted}: choose a smaller batch, width or resolution"
    return text
