"""fastgan systems: what can be trained, and on what."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any


def add(subparsers: Any) -> None:
    subparsers.add_parser("systems", help="list systems and data sets")


def run(args: argparse.Namespace) -> int:
    from fastgan import data
    from fastgan.systems.registry import find, names

    print("systems (fastgan train NAME)")
    for name in names():
        system = find(name)
        print(f"  {name:18} {(system.__doc__ or '').splitlines()[0]}")
        options = (f"{field.name}={_text(field.default)}" for field in dataclasses.fields(system.Config))
        print(f"  {'':18} options: {' '.join(options)}")
    print("data sets (--data NAME)")
    for name in data.names():
        print(f"  {name}")
    return 0


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
