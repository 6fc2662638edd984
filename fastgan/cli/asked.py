"""The pictures that `fastgan translate` is asked for, and what is given beside each: masks, hints, references."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from fastgan.systems import Translator

SIZE = "a side, or HxW, in pixels, as 256 or 256x192"


class Asked(NamedTuple):
    """A picture to translate."""

    path: Path
    name: str  # of what it becomes, below the folder of the results, without extension


def pictures(names: Sequence[str]) -> Iterator[Asked]:
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


class Reader:
    """Reads a picture, at the size asked for, and what is given beside it: `Reader(...)(asked)`."""

    def __init__(
        self,
        system: Translator,
        size: int | tuple[int, int] | None,
        white: int | None,
        paths: Mapping[str, Mapping[str, Path]],  # by option, by the picture's name
    ) -> None:
        self.size, self.white, self.paths = size, white, paths
        self.channels = system.image_shape[0]
        self.kept = lru_cache(3)(self._picture)  # what serves all pictures is read once
        for name in ("reference", "mask", "truth"):  # of one that serves all, what is wrong is said once, before all
            if len(files := set(paths.get(name, {}).values())) == 1:
                self.picture(name, *files)

    def __call__(self, each: Asked) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """The picture (1, C, H, W) in [-1, 1], the inputs of the system beside it, and what should come out."""
        from fastgan.data.hints import read_hints
        from fastgan.runs.resizing import brought

        image = self._picture(each.path, self.channels)
        own = height, width = image.shape[2], image.shape[3]
        size = size_for(self.size, height, width)
        paths = {name: files[each.name] for name, files in self.paths.items()}
        inputs: dict[str, Tensor] = {}
        if "reference" in paths:
            inputs["reference"] = self.picture("reference", paths["reference"])
        if "mask" in paths:
            inputs["mask"] = mask(self.picture("mask", paths["mask"]), own, size)
        if "hints" in paths:
            inputs["hints"] = read_hints(paths["hints"], height, width)
        truth = self.picture("truth", paths["truth"]) if "truth" in paths else None
        if size != own:
            check_memory(4 * self.channels * math.prod(size), f"{size[1]}x{size[0]} pixels take")
            image, inputs = brought(image, inputs, size)
        return image, inputs, truth

    def picture(self, name: str, path: Path) -> Tensor:
        """What is given beside pictures. ValueError that names it for what is none."""
        from fastgan.data.decode import Unusable
        from fastgan.data.problems import printable

        try:
            return self.kept(path, 1 if name == "mask" else self.channels)
        except (Unusable, OSError) as error:
            raise ValueError(f"the {name} {printable(str(path))}: {reason_of(error)}") from error

    def _picture(self, path: Path, channels: int) -> Tensor:
        return picture(path, channels, self.white)


def picture(path: Path, channels: int, white: int | None = None) -> Tensor:
    """A picture as large as it is, (1, channels, H, W) in [-1, 1]. Unusable, naming why, for what is none."""
    import torch

    from fastgan.data.decode import decode, quiet
    from fastgan.data.pictures import to_float

    with quiet():
        pixels, _ = decode(path.read_bytes(), 1, channels, white, fit="cut")
    return to_float(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def mask(found: Tensor, own: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A picture (1, 1, H, W) -> 1 where it is white, 0 where it is black. It must be as large as the picture:
    the (height, width) of its own, or that to which it is brought."""
    if found.shape[2:] not in (own, size):
        height, width = found.shape[2:]
        raise ValueError(f"the mask must be as large as the picture, {own[1]}x{own[0]} pixels, not {width}x{height}")
    return (found > 0).to(found.dtype)


def size_of(text: str) -> int | tuple[int, int]:
    """What --size says: the shorter side, or (height, width)."""
    found = re.fullmatch(r"0*([1-9]\d{0,5})(?:[xX]0*([1-9]\d{0,5}))?", text.strip())
    if not found:
        raise ValueError(f"--size must be {SIZE}, not {text!r}")
    return (int(found[1]), int(found[2])) if found[2] else int(found[1])


def size_for(size: int | tuple[int, int] | None, height: int, width: int) -> tuple[int, int]:
    """(height, width) that a picture of that size is brought to."""
    if size is None:
        return height, width
    if isinstance(size, tuple):
        return size
    times = size / min(height, width)
    return max(1, round(height * times)), max(1, round(width * times))


def beside(option: str, value: str, asked: Sequence[Asked]) -> dict[str, Path]:
    """The file of each picture, by the picture's name: one for all, or that of the same name in a folder."""
    from fastgan.data.problems import examples, printable

    path, found = Path(value), dict[str, Path]()
    if not path.exists():
        raise FileNotFoundError(f"--{option} must be a file or a folder: there is no {printable(value)}")
    if not path.is_dir():
        return {each.name: path for each in asked}
    names = {each.name for each in asked}
    for file in sorted(path.rglob("*")):
        name = os.path.splitext(file.relative_to(path))[0]
        if name not in names or not file.is_file():
            continue
        if name in found:
            raise ValueError(
                f"{printable(str(found[name]))} and {printable(str(file))} could both be the {option} of {name}: leave "
                "one there"
            )
        found[name] = file
    if missing := [each.name for each in asked if each.name not in found]:
        raise ValueError(
            f"{printable(value)} has no {option} for {len(missing)} of {len(asked)} pictures: {examples(missing)}; "
            "each needs a file of its name, extension aside"
        )
    return found


def check_memory(needed: int, what: str) -> None:
    from fastgan.data.readers import free_memory

    if needed > 1 << 28 and needed > (free := free_memory()):
        raise ValueError(
            f"{what} {needed / 1e9:.1f} GB of memory, of which {free / 1e9:.1f} are free: give a smaller --size"
        )


def reason_of(error: BaseException) -> str:
    """Of an error about one picture, without the picture's name."""
    if of_memory(error):
        return "not enough memory: give a smaller --size, or --tile where the system goes in tiles"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def of_memory(error: BaseException) -> bool:
    """Whether memory was short; torch has RuntimeErrors of it."""
    text, kind = str(error), type(error).__name__
    return isinstance(error, MemoryError) or "allocate memory" in text or kind == "OutOfMemoryError"
