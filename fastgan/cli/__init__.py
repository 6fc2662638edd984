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

from fastgan.messages import heard_by

COMMANDS = (
    "train", "sample", "interpolate", "arithmetic", "project", "evaluate", "report", "export", "explain", "systems",
    "bench", "doctor",
)  # fmt: skip
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for a mistake of the user's (one line on stderr), 130 after Ctrl-C.

    FASTGAN_DEBUG=1 shows the traceback instead of the line.
    """
    parser = argparse.ArgumentParser(prog="fastgan", description="Faster training of generative adversarial networks.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands = {name: import_module(f"fastgan.cli.{name}") for name in COMMANDS}
    for command in commands.values():
        command.add(subparsers)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        subparsers.choices[args.command].error(f"no option {' '.join(unknown)}; --help lists them")
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


def _reason(error: Exception) -> str:
    text = str(error)
    if "allocate memory" in text or type(error).__name__ == "OutOfMemoryError":  # RuntimeErrors of torch
        size = re.search(r"[Tt]ried to allocate ([\d.]+ ?\w+)", text)
        wanted = f" (it asked for {size[1]} more)" if size else ""
        return f"not enough memory{wanted}: choose a smaller batch, width or resolution"
    return text
