"""What the commands that draw from a trained generator share: options, numbered latents, labelled cells."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from fastgan.systems import Generative, System

BLOCK = 16  # latents drawn at once: sample i is the same whatever is drawn after it
MOST = 100_000  # samples that have a number
READABLE = 56  # pixels a side that a cell with a number needs


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the latents (default: 0)")
    parser.add_argument(
        "--labels",
        metavar="CLASS,CLASS,...",
        help="of a conditional system: names or numbers of classes, each in turn; a name goes first (default: all)",
    )
    add_run_options(parser)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Which of its weights, and where."""
    parser.add_argument("--raw", action="store_true", help="the trained weights, not their moving average")
    parser.add_argument(
        "--checkpoint", choices=("last", "best", "previous"), default="last", help="of the run (default: last)"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1")
    parser.add_argument("--system", metavar="FILE:CLASS", help="of your own system, as my.py:MyGAN, which runs")


def system_of(args: argparse.Namespace) -> Generative:
    """The trained system that the options name, one that samples. ValueError, OSError as `fastgan.load`."""
    return sampling(trained(args), args.run)


def sampling(system: System, run: str) -> Generative:
    """The system of that run, if it is one that samples; else ValueError, which says what else to do with it."""
    from fastgan.systems import Generative, Translator

    if isinstance(system, Generative):
        return system
    what = "fastgan translate uses it" if isinstance(system, Translator) else f"in Python: fastgan.load({run!r})"
    raise ValueError(f"{run} was trained by {system.name}, which makes nothing of random numbers; {what}")


def trained(args: argparse.Namespace) -> System:
    """The trained system that `add_run_options` name, of any kind. ValueError, OSError as `fastgan.load`."""
    if not 0 <= getattr(args, "seed", 0) < 2**63:
        raise ValueError(f"--seed must lie in 0..2**63 - 1, not {args.seed}")
    if Path(args.run).suffix == ".safetensors" and (args.raw or args.checkpoint != "last"):
        raise ValueError(f"{args.run} holds one set of weights; --raw and --checkpoint choose among those of a run")
    from fastgan.runs import load

    return load(args.run, averaged=not args.raw, which=args.checkpoint, device=args.device, system=args.system)


def check_out(out: str, *suffixes: str) -> str:
    """The suffix of the file to write. Errors as `check_file`: before anything is computed."""
    from fastgan.files import check_file

    return check_file(out, *suffixes).suffix.lower()


def latents(system: Generative, numbers: Sequence[int], seed: int) -> Tensor:
    """(len(numbers), ...): the latents of the samples of these numbers, 0 being the first that the seed gives."""
    import torch

    for number in numbers:
        if not 0 <= number < MOST:
            raise ValueError(f"sample numbers lie in 0..{MOST - 1}, not {number}")
    generator = torch.Generator().manual_seed(seed)
    blocks = [system.latent(BLOCK, generator) for _ in range(max(numbers) // BLOCK + 1)]
    return torch.cat(blocks)[list(numbers)]


def labels_of(system: Generative, asked: str | None) -> list[int]:
    """The classes to draw, in turn, as `--labels` says: by name, else by number; none where the system is not
    conditional. A name that holds a comma stands alone or in double quotes."""
    from fastgan.data.identity import composed

    if asked is None:
        return list(range(system.classes))
    if not system.classes:
        raise ValueError(f"{system.name} is not conditional: its samples have no classes, leave out --labels")
    names = [composed(name) for name in system.class_names]
    whole = composed(asked.strip())
    parts = [whole] if whole in names else next(csv.reader([whole], skipinitialspace=True), [])
    return [_label(part.strip(), names, system.classes) for part in parts or [""]]


def _label(asked: str, names: Sequence[str], count: int) -> int:
    """The class of that name, else of that number."""
    if asked in names:
        return names.index(asked)
    if asked.isdecimal() and int(asked) < count:
        return int(asked)
    if not names:
        raise ValueError(f"--labels takes numbers in 0..{count - 1} with commas between them, as 0,1, not {asked!r}")
    from fastgan.data.problems import examples

    near = get_close_matches(asked, names, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(
        f"there is no class {asked!r}: {hint}--labels takes names ({examples(names, 20)}) or numbers in "
        f"0..{count - 1}, with commas between them"
    )


def folder_name(names: Sequence[str], label: int) -> str:
    """A class as part of a file's name."""
    name = names[label] if names else str(label)
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or str(label)


def of_points(system: Generative) -> bool:
    """Whether what it makes are points of the plane, which are drawn as dots in one picture."""
    return system.makes == "vector" and system.config.channels == 2


def batches(system: Generative, latent: Tensor, labels: Sequence[int] = ()) -> Iterator[Tensor]:
    """(N, ...) latents -> (at most 64, C, H, W) in [-1, 1] on the CPU, until all are done.

    labels: of a conditional system, taken in turn."""
    import torch

    parts = latent.split(64)
    turns: Sequence[Tensor | None] = [None] * len(parts)
    if labels:
        turns = (
            torch.tensor(labels, device=latent.device).repeat(-(-len(latent) // len(labels)))[: len(latent)].split(64)
        )
    for part, turn in zip(parts, turns):
        yield system.sample(len(part), latent=part, labels=turn).cpu()


def samples(system: Generative, latent: Tensor, labels: Sequence[int] = ()) -> Tensor:
    """All of them, (N, C, H, W) in [-1, 1]."""
    import torch

    return torch.cat(list(batches(system, latent, labels)))


def cells(system: Generative, latent: Tensor, labels: Sequence[int] = ()) -> Tensor:
    """The same as pictures, (N, 1 or 3, H, W) uint8."""
    import torch

    return torch.cat([pixels(images) for images in batches(system, latent, labels)])


def pixels(images: Tensor) -> Tensor:
    """Images in [-1, 1] as (N, 1 or 3, H, W) uint8. Of channels that no picture shows, the first one."""
    from fastgan.data import to_uint8

    return to_uint8((images if images.shape[1] in (1, 3) else images[:, :1]).clamp(-1, 1))


def labelled(images: Tensor, labels: Iterable[str]) -> Tensor:
    """(N, 1 or 3, H, W) uint8, enlarged where the label would cover too much, with a label in a corner of each."""
    import numpy as np
    import torch
    from PIL import Image, ImageDraw, ImageFont

    from fastgan.data import enlarged

    font = ImageFont.load_default()
    pictures = []
    for image, label in zip(enlarged(images, READABLE), labels):
        picture = Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())
        if label:
            draw = ImageDraw.Draw(picture)
            *_, right, bottom = draw.textbbox((2, 1), label, font=font)
            draw.rectangle((0, 0, right + 1, bottom + 1), fill="black")
            draw.text((2, 1), label, font=font, fill="white")
        pictures.append(torch.from_numpy(np.array(picture)).view(*picture.size[::-1], -1).permute(2, 0, 1))
    return torch.stack(pictures)
