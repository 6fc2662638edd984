"""fastgan translate: pictures through a trained run that makes pictures of pictures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastgan.cli.drawing import add_run_options, trained

if TYPE_CHECKING:
    from torch import Tensor

SHEET = 64  # pictures on it, at most
CELL = 256  # pixels a side of a picture on it, at most


class Asked(NamedTuple):
    """A picture to translate."""

    path: Path
    name: str  # of what it becomes, below the folder of the results, without extension


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "translate",
        help="translate pictures by a run of a system that makes pictures of pictures",
        description="Translates pictures, and all pictures in folders, whose names and folders are kept. A picture "
        "that cannot be used is named, and the others go on.",
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", help="files or folders")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="a new or empty folder; of one picture a file, too, as out.png"
    )
    parser.add_argument("--direction", help="of a system with several, as 'b to a' (default: the first)")
    parser.add_argument("--reference", metavar="PICTURE", help="for a system that takes one: whose make-up, style, ...")
    parser.add_argument(
        "--mask", metavar="PICTURE", help="for a system that fills in: white where a picture is missing"
    )
    parser.add_argument(
        "--hints",
        metavar="FILE",
        help="for a system that takes colors at points: lines `x y #rrggbb [size]`, JSON, or a picture that is "
        "transparent elsewhere",
    )
    parser.add_argument("--tile", type=int, metavar="N", help="pixels a side of tiles; 0: whole (default: as needed)")
    parser.add_argument("--sheet", metavar="FILE", help="a picture of all, before beside after (at most 64)")
    parser.add_argument("--gif", metavar="FILE", help="the same as a GIF that goes from before to after")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from fastgan.data import save_picture
    from fastgan.data.decode import Unusable
    from fastgan.data.hints import read_hints
    from fastgan.data.pictures import FORMATS, to_uint8
    from fastgan.data.problems import printable
    from fastgan.files import check_file
    from fastgan.runs.translation import translated
    from fastgan.systems import Translator

    if args.tile is not None and args.tile < 0:
        raise ValueError(f"--tile must be at least 0, not {args.tile}")
    asked = list(_asked(args.pictures))
    single = _check_out(args.out, len(asked))
    for option, suffixes in ("sheet", tuple(FORMATS)), ("gif", (".gif",)):
        if value := getattr(args, option):
            check_file(value, *suffixes, what=f"--{option}")
    system = trained(args)
    if not isinstance(system, Translator):
        raise ValueError(
            f"{args.run} was trained by {system.name}, which translates nothing: fastgan sample draws from it"
        )
    direction = system.way(args.direction)
    given = {name: Path(value) for name in ("reference", "mask", "hints") if (value := getattr(args, name)) is not None}
    for name in given:
        if name not in system.takes:
            accepted = (
                f"beside pictures it takes {', '.join(system.takes)}" if system.takes else "it takes pictures alone"
            )
            raise ValueError(f"{system.name} takes no {name}: {accepted}; leave out --{name}")
    channels = system.image_shape[0]
    reference = picture(given["reference"], channels) if "reference" in given else None
    shown: list[tuple[Tensor, Tensor]] = []
    failed = 0
    for each in tqdm(asked, unit="img", disable=None):
        try:
            image = picture(each.path, channels)
            inputs = {} if reference is None else {"reference": reference}
            if "mask" in given:
                inputs["mask"] = mask(given["mask"], image)
            if "hints" in given:
                inputs["hints"] = read_hints(given["hints"], *image.shape[2:])
            made = translated(system, image, direction, inputs, args.tile)
        except (Unusable, ValueError, OSError) as error:
            if len(asked) == 1:
                raise ValueError(f"{printable(str(each.path))}: {error}") from error
            failed += 1
            print(f"{printable(str(each.path))}: {error}", file=sys.stderr)
            continue
        path = Path(args.out) if single else Path(args.out, f"{each.name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        result = to_uint8(made[0])
        save_picture(path, result)
        if (args.sheet or args.gif) and len(shown) < SHEET:
            shown.append((cell(to_uint8(image[0])), cell(result)))
    done = len(asked) - failed
    print(f"{args.out}: {done} picture{'s' * (done != 1)} translated" + (f", {failed} left out" if failed else ""))
    if shown and args.sheet:
        save_picture(args.sheet, sheet(shown))
    if shown and args.gif:
        _save_gif(args.gif, shown)
    return 1 if failed else 0


def picture(path: Path, channels: int) -> Tensor:
    """A picture as large as it is, (1, channels, H, W) in [-1, 1]. Unusable, naming why, for what is none."""
    import torch

    from fastgan.data.decode import decode, quiet
    from fastgan.data.pictures import to_float

    with quiet():
        pixels, _ = decode(path.read_bytes(), 1, channels, fit="cut")
    return to_float(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def mask(path: Path, image: Tensor) -> Tensor:
    """(1, 1, H, W): 1 where the picture of that path, as large as `image`, is white, 0 where it is black."""
    found = picture(path, 1)
    if found.shape[2:] != image.shape[2:]:
        (height, width), (tall, wide) = found.shape[2:], image.shape[2:]
        raise ValueError(f"the mask must be as large as the picture, {wide}x{tall} pixels, not {width}x{height}")
    return (found > 0).to(image.dtype)


def cell(image: Tensor) -> Tensor:
    """(C, H, W) uint8 -> (3, CELL, CELL) uint8: as large as fits, in the middle of black."""
    import torch
    import torch.nn.functional as F

    height, width = image.shape[1:]
    times = CELL / max(height, width)
    size = [max(1, round(side * times)) for side in (height, width)]
    mode = {"mode": "nearest"} if times >= 1 else {"mode": "bicubic", "antialias": True}
    values = F.interpolate(image[None].float(), size, **mode)[0].round().clamp(0, 255).to(torch.uint8)
    top, left = ((CELL - side) // 2 for side in size)
    result = torch.zeros(3, CELL, CELL, dtype=torch.uint8)
    result[:, top : top + size[0], left : left + size[1]] = values
    return result


def sheet(shown: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Before beside after, a few pairs a row."""
    import math

    import torch

    from fastgan.data import grid

    pairs = max(1, round(math.sqrt(len(shown) / 2)))
    return grid(torch.stack([image for pair in shown for image in pair]), 2 * pairs)


def _save_gif(path: str, shown: Sequence[tuple[Tensor, Tensor]]) -> None:
    """All befores fade into all afters, and back."""
    import torch

    from fastgan.data import grid
    from fastgan.data.movie import save_gif

    before, after = (grid(torch.stack(images)).float() for images in zip(*shown))
    there = [i / 8 for i in range(9)]
    shares = [0.0] * 8 + there + [1.0] * 8 + there[::-1]
    save_gif(path, [(before + (after - before) * share).round().to(torch.uint8) for share in shares], hold=0.1)


def _asked(names: Sequence[str]) -> Iterator[Asked]:
    """Every picture that is named, or in a folder that is. Errors for what is not there or would be called alike."""
    from fastgan.data.problems import printable
    from fastgan.data.scan import scan, without_pictures

    seen: dict[str, Path] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = scan(name)
            if not found.paths:
                raise without_pictures(name, found)
            pictures = [(path / below, below) for below in found.paths]
        elif path.exists():
            pictures = [(path, path.name)]
        else:
            raise FileNotFoundError(f"there is no picture and no folder {printable(name)}")
        for file, below in pictures:
            stem = os.path.splitext(below)[0]
            if stem in seen:
                raise ValueError(
                    f"{printable(str(seen[stem]))} and {printable(str(file))} would both become {printable(stem)}.png: "
                    "translate them into folders of their own"
                )
            seen[stem] = file
            yield Asked(file, stem)


def _check_out(out: str, count: int) -> bool:
    """Whether --out is one file. Errors for a folder that holds something, and for what can be neither."""
    from fastgan.data.pictures import FORMATS
    from fastgan.files import check_file, check_folder, names_folder

    if not names_folder(out) and Path(out).suffix.lower() in FORMATS:
        if count > 1:
            raise ValueError(f"{count} pictures need a folder: give --out DIR, not {out!r}")
        check_file(out)
        return True
    folder = Path(out)
    if folder.is_dir() and (files := sum(1 for _ in folder.iterdir())):
        raise FileExistsError(f"the folder {folder} holds {files} files already: choose a new one or empty it")
    check_folder(folder if folder.is_dir() else folder.parent, folder)
    return False
