"""Systems that make one picture of another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fastgan.data.fields import Batch, Field, Images
from fastgan.data.panel import Panel
from fastgan.systems.base import Output, System, evaluating
from fastgan.systems.remedies import COPIES, Remedy
from fastgan.systems.signs import change, hiding

LOOKED_AT = 4  # pictures, for signs


@dataclass(frozen=True, eq=False)
class Example:
    """Pictures to translate, and what a translation of them is shown with and judged by.

    name: of what they are examples of: a direction, or a way to use it, such as "10 hints".
    images: (N, C, H, W) in [-1, 1], what goes in.   inputs: what goes in beside them.
    truth: (N, C', H', W'), what should come out, where that is known.
    region: (N, 1, H', W') bool, where the truth counts; none: everywhere.
    shown: whether it is in previews and counts for the best checkpoint; not where it only judges the pictures of
        another one elsewhere.
    """

    name: str
    direction: str
    images: Tensor
    truth: Tensor | None = None
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    region: Tensor | None = None
    shown: bool = True

    def rows(self, rows: slice) -> Example:
        """Some of them."""
        inputs = {name: values[rows] for name, values in self.inputs.items()}
        truth, region = (None if values is None else values[rows] for values in (self.truth, self.region))
        return replace(self, images=self.images[rows], truth=truth, inputs=inputs, region=region)


class Translator(System):
    """Pictures of one field become pictures of another: `directions` names each way with the two fields.

    A subclass gives `forward`. Where both fields are of one group of the data, its rows are pairs: previews and
    evaluation then show and compare the truth. One that makes its input of the pictures it trains on, or takes more
    than a picture, gives `examples`, too.
    """

    best_by: ClassVar[str] = "l1"  # where the truth is known
    directions: ClassVar[Mapping[str, tuple[str, str]]] = {"forward": ("source", "target")}
    paired: ClassVar[bool] = True  # whether the data have the two pictures of a pair in one row
    takes: ClassVar[
        Mapping[str, str]
    ] = {}  # what `forward` takes beside pictures, by name: a line that says what it is
    scale: ClassVar[int] = 1  # pixels of the result, in a row, of each pixel that goes in

    @property
    def multiple(self) -> int:
        """Sides of what goes in must be multiples of this number of pixels."""
        return 1

    @property
    def least(self) -> int:
        """Pixels that a side of what goes in must have."""
        return self.multiple

    @property
    def fixed(self) -> tuple[int, int] | None:
        """(height, width), the only size that goes in; None: any."""
        return None

    @property
    def halo(self) -> int | None:
        """How far around itself a pixel of the result looks, in pixels of what goes in, so that a large picture can be
        translated in tiles; None: everywhere, so that only a whole picture can."""
        return None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the pictures it trains on."""
        return self.config.channels, self.config.resolution, self.config.resolution

    def inputs(self) -> dict[str, Field]:
        names = dict.fromkeys(name for pair in self.directions.values() for name in pair)
        return {name: Images(*self.image_shape) for name in names}

    @classmethod
    def options_for(cls, fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
        """`channels`: three where a field has colors; `resolution`: the power of two below the shortest side, from 32
        to 128."""
        images = [field for field in fields.values() if isinstance(field, Images)]
        if not images:
            return {}
        side = min(min(field.height, field.width) for field in images)
        found = {
            "channels": max(field.channels for field in images),
            "resolution": min(max(32, 1 << (side.bit_length() - 1)), 128),
        }
        return {name: value for name, value in found.items() if name not in given and hasattr(cls.Config, name)}

    @abstractmethod
    def forward(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] -> (N, C', H', W'), in the mode (train or eval) and grad mode that is set."""

    @torch.no_grad()
    def translate(self, images: Tensor, direction: str | None = None, **inputs: Tensor) -> Tensor:
        """`images` (N, C, H, W) in [-1, 1] translated, by the networks in eval mode: no state changes.

        direction: one of `directions`; the first where it is not given.   inputs: those of `takes`.
        ->  (N, C', scale H, scale W).   ValueError for what `check` refuses.
        """
        direction = self.way(direction)
        self.check(images, direction, inputs)
        with evaluating(self):
            return self(
                images.to(self.device), direction, **{n: values.to(self.device) for n, values in inputs.items()}
            )

    def way(self, direction: str | None) -> str:
        """A direction by name, the first by default. ValueError for another one."""
        if direction is None:
            return next(iter(self.directions))
        if direction not in self.directions:
            raise ValueError(f"direction must be one of {', '.join(self.directions)}, not {direction!r}")
        return direction

    def way_back(self, direction: str) -> str | None:
        """The direction that makes of a result what went in, of the picture alone; None where there is none."""
        before, after = self.directions[direction]
        if before == after or self.takes:
            return None
        return next((name for name, both in self.directions.items() if both == (after, before)), None)

    def check(self, images: Tensor, direction: str, inputs: Mapping[str, Tensor]) -> None:
        """ValueError for pictures, or something beside them, that cannot be translated in this direction."""
        if images.dim() != 4 or not len(images):
            raise ValueError(f"images must be (N, C, H, W) with at least one image, not {tuple(images.shape)}")
        self.check_given(direction, inputs)
        for name, values in inputs.items():
            if values.dim() != 4 or len(values) != len(images):
                raise ValueError(
                    f"{name} must be (N, C, H, W) with a row for each of the {len(images)} images, not "
                    f"{tuple(values.shape)}"
                )
        self.check_size(*images.shape[2:])

    def check_given(self, direction: str, names: Collection[str]) -> None:
        """ValueError for something beside pictures that this direction does not take, or cannot do without."""
        for name in names:
            if name not in self.takes:
                accepted = (
                    f"beside pictures it takes {', '.join(self.takes)}" if self.takes else "it takes pictures alone"
                )
                raise ValueError(f"{self.name} takes no {name}: {accepted}")

    def check_size(self, height: int, width: int) -> None:
        """ValueError unless pictures of that size can go in."""
        if self.fixed is not None:
            if (height, width) != self.fixed:
                tall, wide = self.fixed
                raise ValueError(f"{self.name} takes pictures of {wide}x{tall} pixels, not {width}x{height}")
        elif min(height, width) < self.least or height % self.multiple or width % self.multiple:
            of = f" multiples of {self.multiple}," if self.multiple > 1 else ""
            raise ValueError(
                f"{self.name} takes pictures whose sides are{of} at least {self.least} pixels, not {width}x{height}"
            )

    def restored(self, image: Tensor, made: Tensor) -> Tensor:
        """What was made of a picture that had to be resized for it, and back, with what stays of the picture itself:
        nothing, by default. Both (N, C, H, W), in [-1, 1]."""
        return made

    def examples(self, batch: Batch, generator: torch.Generator, paired: bool | None = None) -> Iterator[Example]:
        """What rows of `inputs` are examples of: by default, of each direction.

        generator: of what is drawn for them, such as the place of a hole.
        paired: whether the fields of a direction have a pair in each row; by default what `self.paired` says.
        """
        known = self.paired if paired is None else paired
        for direction, (before, after) in self.directions.items():
            yield Example(direction, direction, batch[before], batch[after] if known else None)

    def baseline(self, example: Example) -> tuple[str, Tensor]:
        """What costs nothing, which a translation must be better than: its name and (N, C', H', W'). By default the
        input itself."""
        return "copy", example.images

    def recording(self) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
        """The first direction."""
        return self.forward, {"images": torch.zeros(2, *self.image_shape, device=self.device, dtype=self.dtype)}

    def probe(self, source: Any, count: int, generator: torch.Generator) -> Batch:
        from fastgan.data import take  # whoever trains without previews needs what torch needs

        return take(source, count).map(lambda values: values.to(self.device))

    def show(self, probe: Batch) -> list[Panel]:
        """A panel an example: what goes in, what comes out, and the truth."""
        examples = self.examples(probe, torch.Generator().manual_seed(0))
        return [self.panel(example) for example in examples if example.shown]

    def panel(self, example: Example) -> Panel:
        """One example translated."""
        parts = {"input": example.images}
        parts |= {name: values[:, :3] for name, values in example.inputs.items()}
        parts["output"] = self.translate(example.images, example.direction, **example.inputs)
        if example.truth is not None:
            parts["truth"] = example.truth
        return Panel(example.name, parts)

    def remedies(self, symptom: str) -> list[Remedy]:
        return [Remedy("a larger learning_rate, or more steps")] if symptom == COPIES else []

    def signs(self, batch: Batch, probe: Batch, logged: Mapping[str, float]) -> Mapping[str, Tensor] | None:
        """How far a few pictures are changed, beside how far what is wanted is from them, and what a way back makes of
        them."""
        found: dict[str, Tensor] = {}
        if self.scale > 1:  # what goes in is no copy
            return found
        few = batch.map(lambda values: values[:LOOKED_AT])
        for example in self.examples(few, torch.Generator().manual_seed(0)):
            if not example.shown:
                continue
            made = self.translate(example.images, example.direction, **example.inputs)
            wanted = few[self.directions[example.direction][1]] if example.truth is None else example.truth
            if (changed := change(example, made, wanted)) is not None:
                found[f"changed/{example.name}"] = changed
            if back := self.way_back(example.direction):
                values = hiding(self, example, made, back)
                found |= {f"{name}/{example.name}": value for name, value in values.items()}
        return found

    def outputs(self, source: Any, count: int, generator: torch.Generator, size: int = 16) -> Iterator[Output]:
        """`size`: pictures translated at once."""
        from fastgan.data import take

        rows = take(source, count)
        for example in self.examples(rows, generator):
            if not example.shown:
                continue
            _, after = self.directions[example.direction]
            for start in range(0, len(example.images), size):
                part = example.rows(slice(start, start + size))
                made = self.translate(part.images, part.direction, **part.inputs)
                yield Output(made, after, None if part.truth is None else part.truth.to(made.device))
