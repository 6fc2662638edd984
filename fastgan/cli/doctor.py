"""fastgan doctor: what this installation runs on, and why not on something faster."""

from __future__ import annotations

import argparse
from typing import Any


def add(subparsers: Any) -> None:
    subparsers.add_parser("doctor", help="show versions, devices and the path each op takes here")


def run(args: argparse.Namespace) -> int:
    from fastgan import backend

    print(backend.info())
    return 0
