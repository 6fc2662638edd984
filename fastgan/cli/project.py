"""fastgan project: the latent whose image is nearest to a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastgan.cli.drawing import add_options, check_out, labels_of, system_of

CELLS = 8  # images on the way, the first and the last included


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "project",
        help="find the latent of a picture",
        description="Moves latents until their images are near to the picture (mean squared error, Adam), and draws "
        "the picture and the images on the way of the best of them.",
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument(
        "picture", metavar="PICTURE", help="its centre square is taken, in the size of the run's images"
    )
    parser.add_argument("--steps", type=int, default=200, help="(default: 200)")
    parser.add_argument("--restarts", type=int, default=8, help="latents to begin with (default: 8)")
    parser.add_argument("--out", default="projection.png", help="PNG file (default: projection.png)")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    for name in "steps", "restarts":
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, not {getattr(args, name)}")
    check_out(args.out, ".png")
    picture = Path(args.picture)
    if not picture.is_file():
        raise FileNotFoundError(f"there is no picture {picture}")
    system = system_of(args)

    import torch

    from fastgan.data import enlarged, grid, save_png, to_uint8
    from fastgan.data.decode import Unusable, decode
    from fastgan.latent import project
    from fastgan.systems.base import evaluating

    channels, resolution, _ = system.image_shape
    if channels not in (1, 3):
        raise ValueError(f"{args.run} makes images of {channels} channels, no pictures")
    try:
        pixels, _ = decode(picture.read_bytes(), resolution, channels)
    except Unusable as reason:
        raise ValueError(f"{picture} cannot be used: {reason}") from None
    original = torch.from_numpy(pixels).permute(2, 0, 1)
    wanted = original.to(system.device)
    starts = system.latent(args.restarts, torch.Generator().manual_seed(args.seed))
    classes = labels_of(system, args.labels)
    turns = torch.tensor([classes[i % len(classes)] for i in range(args.restarts)]) if classes else None
    labels = None if turns is None else turns.to(system.device)
    with evaluating(system):
        found = project(lambda latents: system.generate(latents, labels), wanted, starts, steps=args.steps)
    best = int(found.errors.min(dim=0).values.argmin())
    moments = sorted({round(moment) for moment in torch.linspace(0, args.steps, CELLS).tolist()})
    own = None if labels is None else labels[best].expand(len(moments))
    images = system.sample(len(moments), latent=found.way[moments], labels=own).cpu()
    cells = torch.cat([original[None], to_uint8(images.clamp(-1, 1))])
    save_png(args.out, enlarged(grid(cells, columns=len(cells))))
    print(
        f"{args.out}: the picture, then steps {', '.join(map(str, moments))}; mean squared error {found.error:.4f}, at "
        f"first {found.errors[0].min():.4f}"
    )
    return 0
