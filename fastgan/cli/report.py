"""fastgan report: a run as one page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "report",
        help="write a run as one HTML page",
        description="Curves, samples over time, events, what `fastgan evaluate` found, settings and versions, in one "
        "file that needs no other.",
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run")
    parser.add_argument("--out", help="HTML file (default: RUN/report.html)")


def run(args: argparse.Namespace) -> int:
    from fastgan.files import check_file, replace_file
    from fastgan.runs.page import page

    out = Path(args.out) if args.out else Path(args.run) / "report.html"
    if args.out:
        check_file(out, ".html", ".htm")
    text = page(args.run).encode()
    replace_file(out, text)
    print(f"{out}: {len(text) / 1000:.0f} kB")
    return 0
