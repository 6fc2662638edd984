"""Networks drawn by hypothesis as source text: the patterns that `fuse` knows, near misses, and what people do to them.

A drawn `Program` is text, so that a failure prints as a file that one can run, and so that its forward is a forward of
a user's: compiled from source, read by the tracer like any other.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

from tests.fusion.random_changes import CHANGES

Shape = tuple[int, ...]  # of one sample: (C, *)


@dataclass(frozen=True)
class Family:
    """How often something is drawn, in percent, where nothing else is said."""

    fused: int = 60  # at least so many of the networks run a fused op
    sensitive: int = 2  # at most so many magnify a rounding
    sequential: int = 30  # the network is an nn.Sequential, else a class with a forward
    nested: int = 12  # a step of it is a container or a block
    functional: int = 25  # an activation is a function call
    near: int = 15  # steps that only resemble a pattern
    odd: int = 40  # a setting of a norm differs from its default
    shared: int = 10  # a module is one that was used before
    wrapped: int = 4  # the weight of a layer is computed: spectral or weight norm
    skips: int = 8  # a tensor is kept, and joined later
    shapes: int = 8  # a step changes the shape or the layout
    control: int = 3  # a step that a trace may not represent
    resampled: int = 0  # a pattern is a convolution after upsampling or before pooling
    near_resampled: int = 0  # and of that kind, one that only resembles it
    wrong: int = 0  # something is not as it should be
    before: int = 10  # a change before fuse
    changes: int = 20  # a change before a step
    vocabulary: tuple[str, ...] = ("modes", "settings", "frozen", "structure", "hooks")  # of changes
    layouts: tuple[str, ...] = ("contiguous",) * 4 + ("channels_last",)
    lengths: tuple[int, ...] = (1, 2, 2, 3)  # of a container or a block, in patterns
    spaces: tuple[Shape, ...] = ((4, 4), (4, 4), (5,), (), (2, 2, 3), (1, 1))
    batches: tuple[int, ...] = (2, 3, 4, 4, 4, 1)
    dtypes: tuple[str, ...] = ("float64",)


FAMILIES = {
    "sequential": Family(sequential=100, nested=15),
    "forward": Family(sequential=0),
    "functional": Family(sequential=0, functional=75, nested=5),
    "skips": Family(sequential=0, skips=35, nested=8),
    "near misses": Family(near=60, shared=25),
    "control flow": Family(fused=50, sequential=0, control=18, vocabulary=("modes", "attributes")),
    "hooks": Family(before=70, changes=40, vocabulary=("hooks",)),
    "computed weights": Family(wrapped=55, changes=25, vocabulary=("modes", "wrapping", "frozen")),
    "settings": Family(odd=60, before=30, changes=60, vocabulary=("settings", "modes", "frozen")),
    "structure": Family(shared=20, changes=60, vocabulary=("structure", "modes", "settings")),
    "layouts": Family(shapes=25, layouts=("channels_last", "sliced", "expanded", "transposed", "contiguous")),
    "resampling": Family(fused=0, resampled=60, nested=5, lengths=(1, 1, 2), spaces=((4, 4), (2, 3), (1, 1), (3, 5))),
    "near resampling": Family(fused=0, resampled=75, near_resampled=70, sequential=20, skips=15, nested=5,
                              lengths=(1, 1, 2), spaces=((4, 4), (2, 3), (3, 5))),
    "resampling, changed": Family(fused=0, resampled=70, nested=5, before=30, changes=50, lengths=(1, 1, 2), wrapped=25,
                                  vocabulary=("modes", "resampling", "hooks", "wrapping"), spaces=((4, 4), (3, 5)),
                                  layouts=("contiguous", "channels_last", "sliced", "expanded", "transposed")),
    "errors": Family(fused=30, wrong=60, functional=15, changes=10, vocabulary=("modes",)),
    "precision": Family(sensitive=15, before=0, changes=0, control=0, lengths=(1, 1, 2), batches=(5, 8),
                        spaces=((4, 4), (4, 4), (5,), (2, 2, 3)), dtypes=("float32", "bfloat16", "autocast")),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    changes: tuple[str, ...]  # statements about `network`, run before
    kind: str  # loss, twice, pair, penalty, r1, update, no_grad, inference, checkpoint


@dataclass(frozen=True, repr=False)
class Program:
    source: str  # of the function `network`
    shape: tuple[int, ...]  # of the input
    layout: str
    dtype: str  # float64, float32, bfloat16 or autocast
    leaf: bool  # whether the input wants a gradient
    before: tuple[str, ...]  # statements about `network`, run before it is fused
    steps: tuple[Step, ...]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # which hypothesis would else write as a call
        printer.text(repr(self))

    def __repr__(self) -> str:
        given = f"input: {self.shape} {self.layout} {self.dtype}{', requires_grad' if self.leaf else ''}"
        steps = "\n".join("; ".join((*step.changes, f"<{step.kind}>")) for step in self.steps)
        return f"\n{self.source}\n# {given}\n# before fuse: {'; '.join(self.before)}\n# steps:\n{steps}\n"


PATTERNS = ("layer norm act",) * 8 + ("norm act",) * 3 + ("layer act",) * 3 + ("layer norm", "norm")
NEAR_MISSES = ("act norm", "layer act norm", "norm dropout act", "layer norm dropout act", "layer norm other",
               "layer other", "norm identity act", "layer norm act act", "norm norm act", "layer dropout act",
               "layer layer act", "act", "layer norm shape act", "layer shape norm act", "layer shape act")  # fmt: skip
RESAMPLED = ("up conv", "conv pool", "up conv norm act", "conv pool act", "up conv act", "conv norm pool",
             "up act conv", "up conv pool", "conv conv pool", "up point", "point pool", "point act pool",
             "up norm conv")  # fmt: skip
CONVOLUTIONS = ("3, padding=1", "3, 1, 1", "3, padding='same'", "5, padding=2", "(3, 1), padding=(1, 0)")
NEAR_CONVOLUTIONS = ("3", "2, padding='same'", "3, padding=2, dilation=2", "3, padding=1, padding_mode='reflect'",
                     "3, 2, 1", "4, padding=1", "3, padding=2", "3, padding=1, padding_mode='circular'")  # fmt: skip
POINTS = ("1", "1, padding='same'", "(1, 1)")
NEAR_POINTS = ("1, padding=1", "1, stride=2")
UPSAMPLINGS = ("nn.Upsample(scale_factor=2)", "nn.UpsamplingNearest2d(scale_factor=2)",
               "nn.Upsample(scale_factor=(2, 2), mode='nearest-exact')")  # fmt: skip
NEAR_UPSAMPLINGS = ("nn.Upsample(scale_factor=2, mode='bilinear')", "nn.UpsamplingBilinear2d(scale_factor=2)",
                    "nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)", "nn.Upsample(size=(5, 4))",
                    "nn.Upsample(scale_factor=2, mode='bicubic')", "nn.Upsample(scale_factor=(1, 2))",
                    "nn.Upsample(scale_factor=1.5, recompute_scale_factor=True)", "nn.Upsample(size=(1, 1))",
                    "nn.Upsample(scale_factor=0.5)")  # fmt: skip
POOLS = ("nn.AvgPool2d(2)", "nn.AvgPool2d((2, 2), stride=2)", "nn.AvgPool2d(2, count_include_pad=False)")
NEAR_POOLS = ("nn.AvgPool2d(2, ceil_mode=True)", "nn.AvgPool2d(3, 2, padding=1)", "nn.AvgPool2d(2, stride=1)",
              "nn.AvgPool2d(3, 2, 1, count_include_pad=False)", "nn.AvgPool2d(2, divisor_override=3)",
              "nn.AvgPool2d((1, 2))", "nn.MaxPool2d(2)", "nn.AvgPool2d(2, padding=1)")  # fmt: skip
COMMON = ("nn.ReLU()", "nn.LeakyReLU(0.2)", "nn.ReLU(inplace=True)", "nn.LeakyReLU(0.3, inplace=True)", "nn.Tanh()",
          "nn.PReLU()", "nn.Sigmoid()", "nn.SiLU()", "nn.ELU()")  # fmt: skip
ACTIVATIONS = (*COMMON, *COMMON, *COMMON, *COMMON, "nn.PReLU({c})", "nn.SiLU(inplace=True)",
               "nn.ELU(0.5, inplace=True)",
               "nn.ELU(alpha=-0.7)", "nn.LeakyReLU()", "nn.LeakyReLU(0.0)", "nn.LeakyReLU(-0.5)", "nn.LeakyReLU(1)",
               "nn.LeakyReLU(-0.5, True)", "nn.Identity()")  # fmt: skip
OTHER = ("nn.GELU()", "nn.Softplus()", "nn.Hardtanh(inplace=True)", "nn.Mish()", "nn.ReLU6()", "nn.Softmax(dim=1)",
         "nn.CELU(0.5)", "nn.Softsign()")  # fmt: skip
DROPOUTS = ("nn.Dropout(0.3)", "nn.Dropout(0.0)", "nn.Dropout(0.5, inplace=True)", "nn.Dropout(1.0)")
FUNCTIONS = {
    "act": ("h = F.relu(h)", "h = F.leaky_relu(h, 0.2)", "h = h.relu()", "h = torch.tanh(h)", "h = h.sigmoid()",
            "h = F.relu(h, inplace=True)", "h = F.leaky_relu(h, 0.3, True)", "h = F.leaky_relu(h, self.slope)",
            "h = F.leaky_relu(h, negative_slope=-0.4)", "h = F.leaky_relu_(h, 0.1)", "h = F.elu(h, alpha=0.7)",
            "h = F.elu_(h)", "h = torch.relu(h)", "h = torch.relu_(h)", "h = h.relu_()", "h.relu_()", "h = h.tanh_()",
            "h = torch.sigmoid_(h)", "h = F.silu(h)", "h = F.silu(h, inplace=True)", "F.relu(h, inplace=True)",
            "h = F.prelu(h, self.slopes)", "h = torch.prelu(h, weight=self.slopes)", "h = F.tanh(input=h)",
            "h = F.relu(h) if self.flag else F.elu(h)", "h = F.leaky_relu(h, self.slope * 2, inplace=self.flag)",
            "h = self.activation(h)", "h = [F.relu, torch.tanh][self.index](h)"),
    "other": ("h = F.gelu(h)", "h = F.softplus(h)", "h = torch.clamp(h, min=0)", "h = h.clamp_(-1, 1)", "h = h.abs()",
              "h = torch.where(h > 0, h, 0.1 * h)", "h = F.leaky_relu(h, h.shape[1] * 0.1)", "h = h * h.sigmoid()"),
    "dropout": ("h = F.dropout(h, 0.3, self.training)", "h = F.dropout(h, 0.2)", "h = h + torch.randn_like(h)"),
}  # fmt: skip
FUNCTIONS |= {
    "up": ("h = F.interpolate(h, scale_factor=2)", "h = F.interpolate(h, None, 2, 'nearest')",
           "h = F.interpolate(input=h, scale_factor=(2.0, 2.0), mode='nearest-exact')"),
    "near up": ("h = F.interpolate(h, scale_factor=2, mode='bilinear')", "h = F.interpolate(h, size=(5, 6))",
                "h = F.interpolate(h, size=(h.shape[2] * 2, h.shape[3] * 2))", "h = F.interpolate(h, scale_factor=3)",
                "h = F.interpolate(h, scale_factor=2, mode='bilinear', align_corners=True, antialias=False)"),
    "pool": ("h = F.avg_pool2d(h, 2)", "h = F.avg_pool2d(h, kernel_size=(2, 2), stride=2)",
             "h = F.avg_pool2d(input=h, kernel_size=2, count_include_pad=False)"),
    "near pool": ("h = F.avg_pool2d(h, 2, ceil_mode=True)", "h = F.avg_pool2d(h, 3, 2, 1)", "h = F.max_pool2d(h, 2)",
                  "h = F.avg_pool2d(h, h.shape[3])", "h = F.avg_pool2d(h, 2, divisor_override=1)",
                  "h = F.adaptive_avg_pool2d(h, 1)"),
}  # fmt: skip
CONTROL = (
    "if self.training:\n    h = h * 0.5", "h = h * 2 if self.training else h", "h = h * self.scale",
    "if self.flag:\n    h = -h", "self.calls += 1\nh = h * self.calls", "if h.shape[0] > 2:\n    h = h * 1.5",
    "with torch.no_grad():\n    t = h.mean()\nh = h + t", "h = h + h.detach().mean()", "h = h * SCALE",
    "h = h + torch.randn(1, dtype=h.dtype)", "for _ in range(2):\n    h = torch.tanh(h)", "assert h.dim() > 1",
    "h = h.reshape(h.shape[0], *h.shape[1:])", "n = h.size(0)\nh = h / n", "h = h * len(h)", "h = sum([h, h * 2])",
    "h = checkpoint(self.{act}, h, use_reentrant=False)", "h = h.clone() if h.requires_grad else h",
    "try:\n    h = h * self.absent\nexcept AttributeError:\n    h = h * 3", "h = self.{act}(input=h)",
    "for m in self.modules():\n    if isinstance(m, nn.Tanh):\n        h = m(h)", "h = h * len(self._modules)",
    "h = h + self.shift", "h = getattr(self, 'act' + '1')(h) if hasattr(self, 'act1') else h",
)  # fmt: skip
SAME_SHAPE = ("h = h.contiguous()", "h = h * 0.5", "h = h.view(h.shape)", "h = h.flip(1)", "h *= 0.7", "h = h[:]",
              "h = h.transpose(0, 1).contiguous().transpose(0, 1)", "h = h.movedim(1, -1).contiguous().movedim(-1, 1)",
              "h[:, 0] = 0.5", "h = -h", "h = h.unsqueeze(0).squeeze(0)",
              "h = h.view(h.size(0), -1).view(h.shape)")  # fmt: skip
MERGES = ("h = h + {s}", "h += {s}", "h = {s} + h", "h = h.add_({s})", "h = torch.cat([h, {s}], 1)", "h = h * {s}",
          "{s} += h\nh = {s}", "h = F.relu(h + {s}, inplace=True)", "{s} *= 2\nh = h + {s}",
          "h = h - {s} * 2")  # fmt: skip
RETURNS = ("h",) * 6 + ("h, {s}", "{{'out': h, 'kept': {s}}}", "[h, h.mean()]", "(h, {{'again': h}})",
                        "h, h.flatten()", "h.reshape(h.shape[0], -1)")  # fmt: skip
KINDS = ("loss", "penalty", "loss", "r1", "update", "twice", "pair", "no_grad", "inference", "checkpoint")


_STRIDES = re.compile(r"transpose|movedim|squeeze|view|memory_format")
_IN_PLACE = re.compile(r"_\(|inplace|True\)|[+*]=|\] =")


@functools.cache
def _below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


class _Writer:
    """Writes the text of one network. The first of the options is the simplest: a failure shrinks towards it."""

    def __init__(self, draw: Callable[..., Any], family: Family) -> None:
        self.draw, self.family = draw, family
        self.classes: list[str] = []
        self.numbers = itertools.count()
        self.known: dict[tuple[str, int], list[str]] = {}  # names of modules that can be used again

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.draw(_below(len(options)))]

    def chance(self, percent: int) -> bool:
        return percent > 0 and self.draw(_below(100)) >= 100 - percent

    def network(self, shape: Shape) -> str:
        if self.chance(self.family.sequential):
            text, _ = self.sequence(shape, 0)
        else:
            name, _ = self.block(shape, 0)
            text = f"{name}()"
        return "\n".join((*self.classes, "def network():", f"    return {text}"))

    def steps(self) -> list[str]:
        """Kinds of steps, one after another."""
        patterns = []
        for _ in range(self.pick(self.family.lengths)):
            if self.chance(self.family.resampled):
                patterns.append(self.pick(RESAMPLED))
            else:
                patterns.append(self.pick(NEAR_MISSES if self.chance(self.family.near) else PATTERNS))
        return " ".join(patterns).split()

    def sequence(self, shape: Shape, depth: int) -> tuple[str, Shape]:
        items = []
        for kind in self.steps():
            if depth < 2 and self.chance(self.family.nested):
                item, shape = self.nested(shape, depth + 1)
                items.append(item)
            item, shape, again = self.module(kind, shape)
            if again is not None and self.chance(self.family.shared):
                name = f"shared{next(self.numbers)}"
                self.known.setdefault(again, []).append(name)
                item = f"{name} := {item}"
            items.append(item)
        return f"nn.Sequential({', '.join(items)})", shape

    def nested(self, shape: Shape, depth: int) -> tuple[str, Shape]:
        if self.chance(60):
            return self.sequence(shape, depth)
        name, shape = self.block(shape, depth)
        return f"{name}()", shape

    def block(self, shape: Shape, depth: int) -> tuple[str, Shape]:
        known, self.known = self.known, {}
        attributes, lines, kept = _Lines(), _Lines(), []
        for kind in self.steps():
            if depth < 2 and self.chance(self.family.nested):
                item, shape = self.nested(shape, depth + 1)
                name = attributes.hold(f"m{next(self.numbers)}", item)
                if item.startswith("nn.Sequential(") and ":=" not in item and self.chance(25):
                    attributes[-1] = attributes[-1].replace("nn.Sequential(", "nn.ModuleList([", 1)[:-1] + "])"
                    lines += (f"for m in {name}:", "    h = m(h)")
                else:
                    lines.append(f"h = {name}(h)")
            if kind in ("up", "pool") and self.chance(self.family.functional * 2):
                near = "near " if self.chance(self.family.near_resampled) else ""
                line = self.pick(FUNCTIONS[near + kind])
                after = _after(f"lambda h: {line.removeprefix('h = ')}", shape)
                if after is not None:
                    lines.append(line)
                    shape = after
            elif kind in FUNCTIONS and kind not in ("up", "pool") and self.chance(self.family.functional):
                line = self.pick(FUNCTIONS[kind]).replace("self.slopes", f"self.slopes{shape[0]}")
                lines.write(line)
                if "self.slopes" in line:
                    attributes.hold(f"slopes{shape[0]}", f"nn.Parameter(torch.linspace(-0.2, 0.6, {shape[0]}))")
            else:
                item, shape, again = self.module(kind, shape)
                name = item if item.startswith("self.") else attributes.hold(f"m{next(self.numbers)}", item)
                lines.append(f"h = {name}(h)")
                if again is not None:
                    self.known.setdefault(again, []).append(name)
            if self.chance(self.family.shapes):
                lines.write(self.pick(SAME_SHAPE))
            if self.chance(self.family.control):
                act = f"act{next(self.numbers)}"
                attributes.hold(act, "nn.Tanh()")
                lines.write(self.pick(CONTROL).replace("{act}", act))
            if kept and self.chance(50):
                shape = self.merge(lines, kept, shape)
            if self.chance(self.family.skips):
                kept.append((f"s{len(kept)}", shape))
                lines.append(f"{kept[-1][0]} = h")
        if kept:
            shape = self.merge(lines, kept, shape)
        result = "h" if depth else self.pick(RETURNS).format(s=kept[-1][0] if kept else "x")
        name = f"Block{next(self.numbers)}"
        self.classes.append(_class(name, attributes, lines, result))
        self.known = known
        return name, shape

    def merge(self, lines: _Lines, kept: list[tuple[str, Shape]], shape: Shape) -> Shape:
        for name, other in reversed(kept):
            if other[1:] == shape[1:]:
                how = self.pick(MERGES) if other == shape else MERGES[4]
                lines.write(how.format(s=name))
                return (shape[0] + other[0], *shape[1:]) if how is MERGES[4] else shape
        return shape

    def module(self, kind: str, shape: Shape) -> tuple[str, Shape, tuple[str, int] | None]:
        """The text of a module, the shape of its result, and, if it may be used again, what it is good for."""
        if kind == "layer":
            return (*self.layer(shape), None)
        if kind in ("conv", "point"):
            return (*self.convolution(kind == "point", shape), None)
        if kind in ("up", "pool"):
            near = self.chance(self.family.near_resampled)
            if kind == "up":
                text = self.pick(NEAR_UPSAMPLINGS if near else UPSAMPLINGS)
            else:
                text = self.pick(NEAR_POOLS if near else POOLS)
            after = _after(text, shape)
            return (text, after, None) if after is not None else ("nn.Identity()", shape, None)
        if kind == "shape":
            return (*self.shape(shape), None)
        if kind == "identity":
            return "nn.Identity()", shape, None
        if kind in ("other", "dropout"):
            return self.pick(OTHER if kind == "other" else DROPOUTS), shape, None
        channels = shape[0]
        key = (kind, 0) if kind == "act" else (f"norm{len(shape)}", channels)
        if (names := self.known.get(key)) and self.chance(self.family.shared * 4):
            return self.pick(names), shape, None
        if self.chance(self.family.wrong // 5):
            channels += 1
        if kind == "norm":
            return self.norm(channels, shape[1:]), shape, key
        act = self.pick(ACTIVATIONS)
        return act.format(c=channels), shape, None if "{c}" in act else key

    def layer(self, shape: Shape) -> tuple[str, Shape]:
        channels, *space = shape
        out = self.pick((3, 4, 2, 5))
        bias = self.pick(("", ", bias=False"))
        if not space:
            text, shape = f"nn.Linear({channels}, {out}{bias})", (out,)
        elif self.chance(20) and prod(space) <= 16:
            kernel, stride = self.pick(((2, 1), (1, 1), (2, 2) if len(space) < 3 else (2, 1)))
            text = f"nn.ConvTranspose{len(space)}d({channels}, {out}, {kernel}, {stride}{bias})"
            shape = (out, *((n - 1) * stride + kernel for n in space))
        else:
            kernel, more = self.pick(((1, ""), (3, ", padding=1"), (2, ""))) if min(space) > 2 else (1, "")
            if kernel == 3:
                more += self.pick(("", "", ", padding_mode='reflect'", ", padding_mode='circular'", ", stride=2"))
            if channels % 2 == 0 and out % 2 == 0:
                more += self.pick(("", ", groups=2"))
            text = f"nn.Conv{len(space)}d({channels}, {out}, {kernel}{more}{bias})"
            left = [n - 1 if kernel == 2 else (n + 1) // 2 if "stride" in more else n for n in space]
            shape = (out, *left)
        if self.chance(self.family.wrapped):
            wrap = self.pick(("spectral_norm", "weight_norm", "nn.utils.spectral_norm", "nn.utils.weight_norm"))
            text = f"{wrap}({text})"
        return text, shape

    def convolution(self, point: bool, shape: Shape) -> tuple[str, Shape]:
        """As it stands after an upsampling and before a pooling, or nearly."""
        channels, *space = shape
        if len(space) != 2:
            return "nn.Identity()", shape
        out = self.pick((4, 3, 2))
        near = self.chance(self.family.near_resampled)
        text = self.pick((NEAR_POINTS if near else POINTS) if point else NEAR_CONVOLUTIONS if near else CONVOLUTIONS)
        if channels % 2 == 0 and out % 2 == 0:
            text += self.pick(("", ", groups=2"))
        text = f"nn.Conv2d({channels}, {out}, {text}{self.pick(('', ', bias=False'))})"
        after = _after(text, shape)
        if after is None:
            return "nn.Identity()", shape
        if self.chance(self.family.wrapped):
            wrap = self.pick(("spectral_norm", "weight_norm", "nn.utils.spectral_norm", "nn.utils.weight_norm"))
            text = f"{wrap}({text})"
        return text, after

    def norm(self, channels: int, space: Shape) -> str:
        rank, names = len(space), (f"BatchNorm{len(space) or 1}d",) * 3 + ("SyncBatchNorm",)
        if prod(space) > 1 or (rank and self.chance(self.family.wrong)):
            names += (f"InstanceNorm{rank}d",) * 3
        name = self.pick(names)
        options = [str(channels)]
        for setting, values in (
            ("eps", (0.8, 1e-3, 0.1, *((0.0, -0.1) if self.family.wrong else ()))),
            ("momentum", (None, 0.0, 1.0, 0.3, *((1.5, -0.5) if self.family.wrong else ()))),
            ("affine", ("Instance" in name,)),
            ("track_running_stats", ("Instance" in name,)),
            ("bias", (False,)),
        ):
            known = setting in inspect.signature(getattr(nn, name)).parameters  # bias is newer than the others
            if known and self.chance(self.family.odd):
                options.append(f"{setting}={self.pick(values)}")
        return f"nn.{name}({', '.join(options)})"

    def shape(self, shape: Shape) -> tuple[str, Shape]:
        channels, *space = shape
        if not space:
            return f"nn.Unflatten(1, ({channels}, 1))", (channels, 1)
        options = [("nn.Flatten(1)", (prod(shape),)), ("nn.Flatten(2)", (channels, prod(space)))]
        if max(space) <= 4 and len(space) < 3:
            options.append(("nn.Upsample(scale_factor=2)", (channels, *(2 * n for n in space))))
        if min(space) >= 2:
            options.append((f"nn.AvgPool{len(space)}d(2)", (channels, *(n // 2 for n in space))))
        return self.pick(options)


@functools.cache
def _after(text: str, shape: Shape) -> Shape | None:
    """The shape of what a step makes of a sample of this shape, or None where it does not take such a one."""
    try:
        with torch.no_grad():
            found = tuple(eval(text, {"nn": nn, "F": F})(torch.zeros(2, *shape)).shape[1:])
    except (RuntimeError, ValueError, NotImplementedError):
        return None
    return found if 0 < prod(found) <= 1000 else None


class _Lines(list[str]):
    def write(self, text: str) -> None:
        self.extend(text.splitlines())

    def hold(self, name: str, value: str) -> str:
        if not any(line.startswith(f"self.{name} =") for line in self):
            self.append(f"self.{name} = {value}")
        return f"self.{name}"


def _class(name: str, attributes: _Lines, lines: _Lines, result: str) -> str:
    for attribute, value in (("slope", 0.25), ("flag", False), ("index", 0), ("calls", 0), ("scale", 0.5)):
        if any(f"self.{attribute}" in line for line in lines):
            attributes.hold(attribute, repr(value))
    if any("self.activation" in line for line in lines):
        attributes.hold("activation", "F.relu")
    if any("self.shift" in line for line in lines):
        attributes.append("self.register_buffer('shift', torch.ones(()))")
    text = [f"class {name}(nn.Module):", "    def __init__(self):", "        super().__init__()"]
    text += [f"        {line}" for line in attributes]
    text += ["    def forward(self, x):", "        h = x"]
    text += [f"        {line}" for line in (*lines, f"return {result}")]
    return "\n".join(text)


@st.composite
def programs(draw: Callable[..., Any], name: str) -> Program:
    family = FAMILIES[name]
    writer = _Writer(draw, family)
    channels, space = writer.pick((3, 2, 4, 1)), writer.pick(family.spaces)
    source = writer.network((channels, *space))
    batch = writer.pick(family.batches)
    if writer.chance(family.wrong // 5):
        shapes = ((0, channels, space), (2, channels + 1, space), (2, channels, (4, *space)), (1, channels, ()),
                  (2, channels, (1,) * len(space)))  # fmt: skip
        batch, channels, space = writer.pick(shapes)
    options = [text for group in family.vocabulary for text in CHANGES[group]]

    def changes(percent: int) -> tuple[str, ...]:
        texts = []
        while len(texts) < 3 and writer.chance(percent):
            texts.append(writer.pick(options).format(i=writer.pick(range(4))))
        return tuple(texts)

    before = changes(family.before)
    steps = [Step(changes(family.changes), writer.pick(KINDS)) for _ in range(2)]
    if writer.chance(30):
        steps.append(Step((*changes(family.changes), "network.eval()"), writer.pick(KINDS)))
    if _IN_PLACE.search(source + repr(steps)):  # where a checkpoint is recomputed wrongly, without a word
        steps = [replace(step, kind=step.kind.replace("checkpoint", "loss")) for step in steps]
    dtype = writer.pick(family.dtypes)
    if writer.chance(family.wrong // 6):
        dtype = writer.pick(("wrong float32", "wrong int64"))
    layout, leaf = writer.pick(family.layouts), writer.chance(80)
    if batch == 1 and (prod(space) == 1 or layout != "contiguous" or _STRIDES.search(source + repr(steps))):
        batch = 2  # of one, with strides like (3, 1, 12, 3), PyTorch's batch_norm has wrong gradients on the CPU
    return Program(source, (batch, channels, *space), layout, dtype, leaf, before, tuple(steps))


def made(shape: tuple[int, ...], layout: str, rounded: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """A random input of this layout; `rounded` gives the numbers their dtype."""
    if layout == "expanded":
        return rounded(torch.randn(1, *shape[1:], dtype=torch.float64)).expand(shape)
    x = rounded(torch.randn(shape, dtype=torch.float64))
    if layout == "channels_last" and len(shape) > 2:
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "sliced":
        return torch.stack([x, x], -1)[..., 0]
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    return x
