"""fastgan arithmetic: sums and differences of samples (Radford et al. 2016, section 6.3.2)."""

from __future__ import annotations

import argparse
import re
from typing import Any

from fastgan.cli.drawing import (
    add_options,
    cells,
    check_out,
    labelled,
    labels_of,
    latents,
    of_points,
    system_of,
)

EXAMPLE = '"1,5,7 - 2,3,9 + 4,6,8"'
NOISE = 0.25  # of the paper: uniform, to both sides
FRAMES = 20


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "arithmetic",
        help="add and subtract samples of a run",
        description="Samples are named by the numbers that `fastgan sample RUN --numbers` draws on them, with the same "
        "--seed. The latents between two signs are averaged.",
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument("expression", metavar="EXPRESSION", help=f"sample numbers, as in {EXAMPLE}")
    parser.add_argument(
        "--out",
        default="arithmetic.png",
        help="PNG: a row a term, its mean last, then the result, last, beside results with a little noise; "
        "GIF: from the first mean to the result (default: arithmetic.png)",
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    terms = parse(args.expression)
    suffix = check_out(args.out, ".png", ".gif")
    system = system_of(args)
    if of_points(system):
        raise ValueError(f"{args.run} makes points; arithmetic draws sums of pictures")
    classes = labels_of(system, args.labels)
    if args.labels and len(classes) > 1:
        raise ValueError(f"arithmetic draws one class, as --labels {classes[0]}, not {args.labels}")
    classes = classes[:1]

    import torch

    from fastgan.data import enlarged, grid, save_png
    from fastgan.data.movie import save_gif
    from fastgan.latent import arithmetic, interpolate

    groups = [latents(system, numbers, args.seed) for _, numbers in terms]
    signs = [-1 if sign == "-" else 1 for sign, _ in terms]
    result = arithmetic(*zip(signs, groups))
    if suffix == ".gif":
        first = arithmetic((signs[0], groups[0]))
        images = cells(system, interpolate(first, result, FRAMES), classes)
        save_gif(args.out, enlarged(images))
        print(f"{args.out}: {FRAMES} images")
        return 0
    columns = max(4, *map(len, groups)) + 1
    latent, labels = [], []
    for (sign, numbers), group in zip(terms, groups):
        empty = columns - 1 - len(group)
        latent.append(torch.cat([group, group[-1:].expand(empty, *group.shape[1:]), group.mean(0, keepdim=True)]))
        labels += [*map(str, numbers), *[None] * empty, sign]
    noise = torch.rand(columns, *result.shape, generator=torch.Generator().manual_seed(args.seed)) * 2 - 1
    noise[-1] = 0
    latent.append(result + (NOISE * noise).to(result))
    labels += [*[""] * (columns - 1), "="]
    images = cells(system, torch.cat(latent), classes)
    images[[label is None for label in labels]] = 0
    save_png(args.out, enlarged(grid(labelled(images, [label or "" for label in labels]), columns)))
    print(f"{args.out}: {args.expression}")
    return 0


def parse(expression: str) -> list[tuple[str, list[int]]]:
    """ "1,5 - 2" -> [("+", [1, 5]), ("-", [2])]. ValueError if it reads otherwise."""
    text = re.sub(r"\s*([-+,])\s*", r"\1", expression.strip())
    text = text if text[:1] in ("+", "-") else f"+{text}"
    if not re.fullmatch(r"([-+]\d+(,\d+)*)+", text, re.ASCII):
        raise ValueError(
            f"cannot read {expression!r}: write sample numbers with commas between them, and + or - between groups, "
            f"as in {EXAMPLE}"
        )
    return [(sign, [int(n) for n in numbers.split(",")]) for sign, numbers in re.findall(r"([-+])([\d,]+)", text)]
