"""Which way of computing a layer is the fastest where `fastgan.tune` measured nothing: tables, of which the first row
that fits is taken. Gains below a tenth are left out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch

from fastgan import backend, tuning
from fastgan.convolutions import narrow, products, winograd
from fastgan.convolutions.products import Layer

# The ways to compute a product: PyTorch's, two of matrices, with fewer multiplications, and of an image and a wide map.
TORCH, MM, ONEDNN, WINOGRAD, NARROW = tuning.TORCH, "mm", "onednn", "winograd", "narrow"
PRODUCTS = CORRELATE, SPREAD, GRADIENT = "correlate", "spread", "weight_gradient"  # as products.py describes them
LEAST_WEIGHT = 2**15  # elements; with fewer, no product gained but those of an image
# Multiplications; with fewer, a call in Python costs more than is gained.
LEAST_WORK = {MM: 0, ONEDNN: 0, WINOGRAD: 10**7, NARROW: 2 * 10**6}


class Processor(NamedTuple):
    """A kind of processor, by what `features` tells of it."""

    has: frozenset[str]
    lacks: frozenset[str] = frozenset()

    def is_this(self, here: frozenset[str]) -> bool:
        return self.has <= here and not self.lacks & here


@functools.cache
def features() -> frozenset[str]:
    """What PyTorch has on this processor of avx2 (and no more), avx512, bfloat16 (products in it) and amx."""
    vectors = torch.backends.cpu.get_cpu_capability() if torch.backends.mkldnn.is_available() else ""
    there = {
        "avx2": vectors == "AVX2",
        "avx512": vectors == "AVX512",
        "bfloat16": backend.autocast_dtype("cpu") is torch.bfloat16,
        "amx": backend.cpu_multiplies_tiles(),
    }
    return frozenset(name for name, has in there.items() if has)


ANY = Processor(frozenset())
TILES = Processor(frozenset({"amx"}))
AVX2 = Processor(frozenset({"avx2"}))
AVX512 = Processor(frozenset({"avx512"}))
AVX512_BF16 = Processor(frozenset({"avx512", "bfloat16"}), lacks=frozenset({"amx"}))
AMX = Processor(frozenset({"avx512", "bfloat16", "amx"}))
# Where it was measured: two cores, torch 2.13.
XEON, EPYC = "Intel Xeon with AMX", "AMD EPYC with AVX512-BF16, without AMX"
BOTH = f"{XEON}; {EPYC}"
OLDER = "AMD EPYC with AVX2 alone"
F32, BF16, F16, F64 = torch.float32, torch.bfloat16, torch.float16, torch.float64


class Rule(NamedTuple):
    product: str
    dtype: torch.dtype
    processor: Processor
    way: str
    measured: str
    when: Callable[[Layer], bool]


def _heavy(layer: Layer) -> bool:
    """Many channels on few pixels, where PyTorch's convolutions are slow."""
    return layer.channels >= 2**17 and (layer.pixels <= 16 or layer.rows <= 64) and _few(layer)


def _few(layer: Layer) -> bool:
    """Few enough rows for products of matrices, with kernels that are worth them."""
    return layer.taps >= 9 and layer.rows <= 4096


def _read_once(layer: Layer) -> bool:
    """A weight so large, for so few rows, that what takes time is to go over it."""
    few = layer.rows <= 64 if layer.channels < 2**17 else layer.rows <= 512
    return layer.taps >= 9 and layer.channels >= 2**16 and few


def _cut(layer: Layer) -> bool:
    """4x4 kernels of stride 1, whose tiles lose a row and a column of the odd maps that they make, with few channels:
    oneDNN is at its best with many."""
    return winograd.is_cut(layer) and layer.least >= 32 and layer.channels <= 2**13 and winograd.meets(layer, 64)


def _whole(layer: Layer) -> bool:
    """The windows of all images fit in one buffer."""
    return products.weight_buffer(layer) <= products.LARGEST_BUFFER


# fmt: off
RULES = (
    # An image and a wide map: 1.4 to 4 times PyTorch's speed for the image, 2.3 to 8 times for the gradient where the
    # image is the small map. Where it is the large one, as before a discriminator's first layer, oneDNN is at its best
    # in bfloat16, and in float32 with few channels or pixels.
    Rule(CORRELATE, F32, AVX512, NARROW, EPYC, lambda layer: True),
    Rule(SPREAD, F32, AVX512, NARROW, EPYC, lambda layer: True),
    Rule(GRADIENT, F32, AVX512, NARROW, EPYC, lambda layer: layer.small <= narrow.MOST),
    Rule(GRADIENT, F32, AVX512, NARROW, EPYC, lambda layer: layer.small >= 64 and layer.rows >= 2**13),
    Rule(CORRELATE, BF16, AVX512_BF16, NARROW, EPYC, lambda layer: True),
    Rule(SPREAD, BF16, AVX512_BF16, NARROW, EPYC, lambda layer: True),
    Rule(GRADIENT, BF16, AVX512_BF16, NARROW, EPYC, lambda layer: layer.small <= narrow.MOST),

    # Winograd's method: the transformed weight must meet enough tiles. A strided `spread` transforms the small map for
    # each place in the stride. Kernels that are cut were not measured here.
    Rule(CORRELATE, F32, AVX512, WINOGRAD, BOTH, lambda layer: (
        layer.least >= 64 and winograd.meets(layer, 256) and not winograd.is_cut(layer))),
    Rule(SPREAD, F32, AVX512, WINOGRAD, BOTH, lambda layer: (
        layer.least >= 64 and winograd.meets(layer, 256) and layer.small >= 64 * winograd.transforms(layer)
        and not winograd.is_cut(layer))),
    Rule(GRADIENT, F32, AVX512, WINOGRAD, BOTH, lambda layer: (
        layer.least >= 64 and winograd.tiles(layer) >= 64 and not winograd.is_cut(layer))),

    # Products of matrices in float32: 1.1 to 1.5 times PyTorch's speed at 4x4 maps of 256 and 512 channels, batch 64.
    Rule(CORRELATE, F32, AVX512, ONEDNN, BOTH, lambda layer: (
        _heavy(layer) and layer.rows <= 1024 and layer.channels_last and layer.weight_last)),
    Rule(SPREAD, F32, AVX512, ONEDNN, BOTH, lambda layer: (
        _heavy(layer) and layer.pixels <= 16 and 256 <= layer.rows <= 2048 and layer.channels <= 2**18
        and layer.channels_last and layer.weight_last)),
    Rule(GRADIENT, F32, AVX512, MM, BOTH, _heavy),

    # In bfloat16 with AMX: 1.6 to 6 times at these maps.
    Rule(CORRELATE, BF16, AMX, ONEDNN, XEON, lambda layer: _heavy(layer) and layer.rows <= 2048),
    Rule(SPREAD, BF16, AMX, ONEDNN, XEON, lambda layer: (
        _heavy(layer) and layer.pixels <= 16 and 256 <= layer.rows <= 2048)),
    Rule(GRADIENT, BF16, AMX, ONEDNN, XEON, lambda layer: _heavy(layer) and _whole(layer)),
    Rule(GRADIENT, BF16, AMX, ONEDNN, XEON, lambda layer: (
        _few(layer) and layer.pixels <= 16 and layer.channels >= 2**14 and _whole(layer))),
    Rule(GRADIENT, BF16, AMX, ONEDNN, XEON, lambda layer: (
        _few(layer) and layer.pixels <= 64 and layer.channels >= 2**15 and _whole(layer))),

    # In bfloat16 without AMX: oneDNN correlates contiguous maps well (products are 0.7 to 0.9 times as fast), and
    # spreads them badly (1.4 to 2 times).
    Rule(SPREAD, BF16, AVX512_BF16, ONEDNN, EPYC, lambda layer: (
        _heavy(layer) and layer.rows <= 64 and not layer.channels_last)),
    # In channels_last it spreads well with strides, but for 512 channels on both sides.
    Rule(CORRELATE, BF16, AVX512_BF16, ONEDNN, EPYC, lambda layer: (
        _heavy(layer) and layer.rows <= 2048 and layer.channels_last)),
    Rule(SPREAD, BF16, AVX512_BF16, ONEDNN, EPYC, lambda layer: (
        _heavy(layer) and layer.pixels <= 16 and 256 <= layer.rows <= 2048 and layer.channels_last
        and (layer.stride == (1, 1) or layer.channels >= 2**18))),
    # Up to 256 rows products are 1.2 to 1.7 times as fast on larger maps, too.
    Rule(CORRELATE, BF16, AVX512_BF16, ONEDNN, EPYC, lambda layer: (
        _few(layer) and layer.rows <= 256 and layer.channels >= 2**17 and layer.channels_last
        and layer.stride != (1, 1))),
    Rule(GRADIENT, BF16, AVX512_BF16, ONEDNN, EPYC, lambda layer: (
        _few(layer) and layer.rows <= 256 and layer.channels >= 2**17 and layer.channels_last and _whole(layer))),
    Rule(GRADIENT, BF16, AVX512_BF16, ONEDNN, EPYC, lambda layer: _heavy(layer) and _whole(layer)),
    Rule(GRADIENT, BF16, AVX512_BF16, ONEDNN, EPYC, lambda layer: (
        _few(layer) and layer.pixels <= 16 and layer.channels >= 2**14 and _whole(layer))),
    # 3x3 kernels on 8x8 maps gain 1.1 times in 1024 rows and lose 0.84 times in 4096.
    Rule(GRADIENT, BF16, AVX512_BF16, ONEDNN, EPYC, lambda layer: (
        _few(layer) and layer.pixels <= 64 and layer.channels >= 2**15 and (layer.taps > 9 or layer.rows <= 1024)
        and _whole(layer))),

    # In float32 with AVX2 alone: 1,100 products of layers of the systems, at their batches, a quarter and four times
    # them. An image and a wide map: 2.8 times PyTorch's speed. The gradient gains where the image is the small map,
    # else on large maps.
    Rule(CORRELATE, F32, AVX2, NARROW, OLDER, lambda layer: True),
    Rule(SPREAD, F32, AVX2, NARROW, OLDER, lambda layer: True),
    Rule(GRADIENT, F32, AVX2, NARROW, OLDER, lambda layer: layer.small <= narrow.MOST and layer.rows >= 512),
    Rule(GRADIENT, F32, AVX2, NARROW, OLDER, lambda layer: (
        layer.large <= narrow.MOST and 9 <= layer.taps <= 49 and layer.rows >= 2**12
        and (layer.pixels >= 2**12 or (layer.rows <= 2**16 and layer.small <= 64)))),
    # Large weights on few pixels: 2.4 and 3.6 times.
    Rule(CORRELATE, F32, AVX2, ONEDNN, OLDER, lambda layer: (
        _read_once(layer) and layer.rows <= 128 and layer.channels_last and layer.weight_last)),
    Rule(GRADIENT, F32, AVX2, ONEDNN, OLDER, lambda layer: (
        _read_once(layer) and (layer.channels_last or (layer.pixels <= 16 and layer.rows >= 4)))),
    # Of maps of one pixel, as inside a U-Net, 3 to 40 times.
    Rule(GRADIENT, F32, AVX2, MM, OLDER, lambda layer: layer.pixels == 1 and layer.channels < 2**16),
    # Winograd's method: 1.3 times, and 1.6 times for the gradient. Its sums and differences cost more beside 5x5.
    Rule(CORRELATE, F32, AVX2, WINOGRAD, OLDER, lambda layer: (
        layer.least >= 32 and winograd.meets(layer, 512 if layer.taps == 25 else 32) and not winograd.is_cut(layer))),
    Rule(SPREAD, F32, AVX2, WINOGRAD, OLDER, lambda layer: (
        layer.least >= 64 and winograd.meets(layer, 512 if layer.taps == 25 else 64)
        and (layer.small >= 64 * winograd.transforms(layer) or layer.pixels <= 64) and not winograd.is_cut(layer))),
    Rule(CORRELATE, F32, AVX2, WINOGRAD, OLDER, _cut),
    Rule(SPREAD, F32, AVX2, WINOGRAD, OLDER, _cut),
    Rule(GRADIENT, F32, AVX2, WINOGRAD, OLDER, lambda layer: (
        winograd.tiles(layer) >= 32 and (layer.least >= 64 or (layer.least >= 32 and winograd.tiles(layer) <= 2048)))),
    # What Winograd's method does not compute, such as 3x3 kernels with a stride: 1.3 times.
    Rule(GRADIENT, F32, AVX2, MM, OLDER, lambda layer: (
        _few(layer) and layer.channels >= 2**15 and layer.channels_last and layer.work >= 10**7)),
)
# fmt: on


def possible(way: str, layer: Layer) -> tuple[bool, bool, bool]:
    """Whether each of PRODUCTS can be computed in this way."""
    if way == WINOGRAD:
        return (winograd.possible(layer),) * 3
    if way == NARROW:
        return narrow.possible(layer)
    return products.possible(layer) if way in (MM, ONEDNN) else (True, True, True)


def fastest(layer: Layer) -> tuple[str, str, str]:
    """The way of each of PRODUCTS."""
    return _fastest(layer, features())


@functools.lru_cache(4096)
def _fastest(layer: Layer, here: frozenset[str]) -> tuple[str, str, str]:
    return tuple(_way(number, layer, here) for number in range(3))  # type: ignore[return-value]


def _way(number: int, layer: Layer, here: frozenset[str]) -> str:
    for rule in RULES:
        if (
            rule.product == PRODUCTS[number]
            and rule.dtype is layer.dtype
            and rule.processor.is_this(here)
            and layer.work >= LEAST_WORK[rule.way]
            and possible(rule.way, layer)[number]
            and rule.when(layer)
        ):
            return rule.way
    return TORCH


class Least(NamedTuple):
    """The fewest pixels, N H W of the smaller map, and multiplications a tap with which a merged convolution paid."""

    training: int  # pixels, with a backward pass
    forward: int  # pixels, without
    work: int  # pixels * channels before * channels after


class MergeRule(NamedTuple):
    dtype: torch.dtype
    processor: Processor
    least: Least
    measured: str


# Measured with 8 to 512 channels. A merge costs as much as a convolution of some pixels with the same weight.
MERGES = (
    MergeRule(F32, ANY, Least(1024, 2048, 2**19), XEON),
    MergeRule(F64, ANY, Least(1024, 2048, 2**19), XEON),
    MergeRule(F16, ANY, Least(1024, 2048, 2**19), XEON),
    MergeRule(BF16, TILES, Least(8192, 16384, 2**20), XEON),
    # Multiplications take longer than what comes with the merge.
    MergeRule(BF16, ANY, Least(1024, 1024, 2**22), EPYC),
)
# oneDNN's strided bfloat16 convolutions are slow on small maps: where products of matrices, Winograd's method or sums
# compute so many of the merged convolution's products, so many pixels suffice.
MERGES_BY_PRODUCTS = {1: 4096, 2: 4096, 3: 1024}


def merges(dtype: torch.dtype) -> Least | None:
    """What a merge must reach to pay, None where it never does."""
    here = features()
    return next((rule.least for rule in MERGES if rule.dtype is dtype and rule.processor.is_this(here)), None)
