"""fastgan systems: what can be trained, and on what; the options of one system."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from typing import Any

from fastgan.options import options, text

WIDTH = 100  # of a table, where the terminal has more


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser("systems", help="list systems and data sets, or the options of a system")
    parser.add_argument("system", nargs="?", help="its options, with their defaults and meanings")


def run(args: argparse.Namespace) -> int:
    from fastgan import data
    from fastgan.systems.registry import find, names

    if args.system is not None:
        return _options(args.system)
    print("systems (fastgan train NAME; fastgan systems NAME lists the options)")
    for name in names():
        print(f"  {name:12} {(find(name).__doc__ or '').splitlines()[0]}")
    print("data sets (--data NAME)")
    for name in data.names():
        print(f"  {name}")
    return 0


def _options(name: str) -> int:
    from fastgan.data.fields import Images
    from fastgan.systems.registry import find

    system = find(name)
    rows = [(each.name, text(each.default), each.meaning) for each in options(system.Config)]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    indent = " " * (first + second + 6)
    columns = max(len(indent) + 20, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))
    print(textwrap.fill((system.__doc__ or "").splitlines()[0], columns))
    print("options (--set NAME=VALUE)")
    for option, default, meaning in rows:
        begin = f"  {option:{first}}  {default:{second}}  "
        print(textwrap.fill(meaning, columns, initial_indent=begin, subsequent_indent=indent) or begin.rstrip())
    quick = system.quick({"image": Images(3, 64, 64)}, None, None)
    chosen = [f"{key}={text(value)}" for part in quick for key, value in part.items()]
    if chosen:
        print(textwrap.fill(f"--preset quick, without a GPU by itself: {' '.join(chosen)}", columns))
    return 0
