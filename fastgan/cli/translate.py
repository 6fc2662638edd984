"""fastgan translate: pictures through a trained run that makes pictures of pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgan.cli.asked import Reader, beside, check_memory, of_memory, pictures, reason_of, size_of
from fastgan.cli.drawing import add_run_options, trained

if TYPE_CHECKING:
    from torch import Tensor

    from fastgan.systems import Translator


def add(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "translate",
        help="translate pictures by a run of a system that makes pictures of pictures",
        description="Translates pictures, and all pictures in folders, whose names and folders are kept. A picture "
        "that cannot be used is named, and the others go on. --reference, --mask, --hints and --truth are a file for "
        "all pictures, or a folder with a file of the same name, extension aside, for each.",
    )
    parser.add_argument("run", metavar="RUN", help="directory of the run, or a file that `fastgan export` made of it")
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", help="files or folders")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="a new or empty folder; of one picture a file, too, as out.png"
    )
    parser.add_argument("--direction", help="of a system with several, as 'b to a' (default: the first)")
    parser.add_argument("--reference", metavar="PATH", help="for a system that takes one: whose make-up, style, ...")
    parser.add_argument("--mask", metavar="PATH", help="for a system that fills in: white where a picture is missing")
    parser.add_argument(
        "--hints",
        metavar="PATH",
        help="for a system that takes colors at points: lines `x y #rrggbb [size]`, JSON, or a picture that is "
        "transparent elsewhere",
    )
    parser.add_argument(
        "--size",
        metavar="N|HxW",
        help="bring pictures, and masks and hints with them, to this size before: their shorter side to N pixels, or "
        "height and width (default: as they are)",
    )
    parser.add_argument("--tile", type=int, metavar="N", help="pixels a side of tiles; 0: whole (default: as needed)")
    parser.add_argument(
        "--white", type=int, metavar="N",
        help="the value that is, in pictures of 16-bit integers (default: as in training, else what they tell)",
    )  # fmt: skip
    parser.add_argument(
        "--sheet", metavar="FILE", help="a picture of all (at most 64): before, what was given beside it, after"
    )
    parser.add_argument("--truth", metavar="PATH", help="what should come out, to stand beside it on the sheet")
    parser.add_argument("--gif", metavar="FILE", help="all of them, from before to after")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from fastgan.cli.before_after import SHEET, cells, save_gif, sheet
    from fastgan.data import save_picture
    from fastgan.data.decode import Unusable
    from fastgan.data.pictures import FORMATS
    from fastgan.data.problems import printable
    from fastgan.files import check_file
    from fastgan.runs.translation import translated
    from fastgan.systems import Translator

    if args.tile is not None and args.tile < 0:
        raise ValueError(f"--tile must be at least 0, not {args.tile}")
    if args.white is not None and args.white < 1:
        raise ValueError(f"--white must be at least 1, not {args.white}")
    if args.truth and not args.sheet:
        raise ValueError("--truth is shown on the sheet: give --sheet FILE, too")
    size = None if args.size is None else size_of(args.size)
    asked = list(pictures(args.pictures))
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
    given = {name: value for name in ("reference", "mask", "hints") if (value := getattr(args, name)) is not None}
    system.check_given(direction, given)
    if args.truth is not None:
        given["truth"] = args.truth
    read = Reader(system, size, args.white or _white(args.run), {n: beside(n, v, asked) for n, v in given.items()})
    shown: list[dict[str, Tensor]] = []
    done, said = 0, ""
    try:
        for each in tqdm(asked, unit="img", disable=None):
            try:
                image, inputs, truth = read(each)
                path = Path(args.out) if single else Path(args.out, f"{each.name}.png")
                _check_result(system, image, path)
                result = translated(system, image, direction, inputs, args.tile, pixels=True)[0]
            except (Unusable, ValueError, OSError, MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not of_memory(error):
                    raise
                reason = reason_of(error)
                if len(asked) == 1:
                    raise ValueError(f"{printable(str(each.path))}: {reason}") from error
                print(f"{printable(str(each.path))}: {'the same' if reason == said else reason}", file=sys.stderr)
                said = reason
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            save_picture(path, result)
            done += 1
            if (args.sheet or args.gif) and len(shown) < SHEET:
                shown.append(cells(image, inputs, result, truth))
    except KeyboardInterrupt:
        print(f"{args.out}: {done} of {len(asked)} pictures translated, then stopped")
        raise
    failed = len(asked) - done
    print(f"{args.out}: {done} picture{'s' * (done != 1)} translated" + (f", {failed} left out" if failed else ""))
    if shown and args.sheet:
        save_picture(args.sheet, sheet(shown))
    if shown and args.gif:
        save_gif(args.gif, shown)
    return 1 if failed else 0


def _white(run: str) -> int | None:
    """What was said in training of which value is white."""
    from fastgan.runs.run import Run

    return Run(run).asked().white if Run(run).config.exists() else None


def _check_result(system: Translator, image: Tensor, path: Path) -> None:
    """ValueError where the result would be larger than its file or the memory can hold."""
    from fastgan.data.pictures import check_sides

    height, width = (side * system.scale for side in image.shape[2:])
    check_sides(path, height, width)
    check_memory(2 * system.image_shape[0] * height * width, f"a result of {width}x{height} pixels takes")


def _check_out(out: str, count: int) -> bool:
    """Whether --out is one file. Errors for a folder that holds something, and for what can be neither."""
    from fastgan.data.decode import EXTENSIONS
    from fastgan.data.pictures import FORMATS
    from fastgan.files import any_of, check_file, check_folder, names_folder

    suffix = Path(out).suffix.lower()
    if not names_folder(out) and suffix in EXTENSIONS - set(FORMATS):
        raise ValueError(f"--out must be a folder, or of one picture a file in {any_of(list(FORMATS))}, not {out!r}")
    if not names_folder(out) and suffix in FORMATS:
        if count > 1:
            raise ValueError(f"{count} pictures need a folder: give --out DIR, not {out!r}")
        check_file(out)
        return True
    folder = Path(out)
    if folder.is_file():
        raise NotADirectoryError(f"--out must be a folder, and {out!r} is a file: choose another name")
    if folder.is_dir() and (files := sum(1 for _ in folder.iterdir())):
        raise FileExistsError(f"the folder {folder} holds {files} files already: choose a new one or empty it")
    check_folder(folder if folder.is_dir() else folder.parent, folder)
    return False
