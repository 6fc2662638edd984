"""Fully connected layers as in torch.nn.functional, with forward, input gradient and weight gradient each by PyTorch,
which takes float32 to the BLAS, or by oneDNN, where `tune` found that faster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan import tuning
from fastgan.convolutions import products, rules
from fastgan.convolutions.convolution import DTYPES, rounded_products, takes
from fastgan.convolutions.rules import ONEDNN, TORCH


class Dense(NamedTuple):
    """What the speed of a product depends on, but for the machine."""

    rows: int
    inputs: int
    outputs: int
    dtype: torch.dtype


_OPS = ("forward", "input_gradient", "weight_gradient")
_QUESTIONS = tuple(f"linear.{name}" for name in _OPS)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear, of the same result, errors and derivatives of any order, from the fastest library for the shape.

    Args:
        x: (*, in_features), any dtype and device; float32 and bfloat16 on CPU can gain. Autocast as PyTorch's.
        weight: (out_features, in_features).
        bias: (out_features,) or None.
    """
    if not takes(x, weight, bias) or weight.numel() < rules.LEAST_WEIGHT or (layer := _layer(x, weight, bias)) is None:
        return F.linear(x, weight, bias)
    graded = torch.is_grad_enabled()
    needed = True, graded and x.requires_grad, graded and weight.requires_grad
    paths = [tuning.choice(q, layer, TORCH) if need else TORCH for q, need in zip(_QUESTIONS, needed)]
    if (
        ONEDNN not in paths
        or not products.onednn_works(layer.dtype)
        or (layer.dtype is torch.float32 and rounded_products())
    ):
        return F.linear(x, weight, bias)
    rows, weight = x.to(layer.dtype).reshape(-1, layer.inputs), weight.to(layer.dtype)  # as autocast does
    bias = None if bias is None else bias.to(layer.dtype)
    if graded and any(t is not None and t.requires_grad for t in (rows, weight, bias)):
        y = _Linear.apply(rows, weight, bias, tuple(paths))
    else:
        y = _forward(rows, weight, bias, paths[0])
    return y.view(*x.shape[:-1], layer.outputs)


def _layer(x: Tensor, weight: Tensor, bias: Tensor | None) -> Dense | None:
    """The shape of a layer, or None of one that PyTorch refuses or that has nothing to gain."""
    dtype = x.dtype
    if torch.is_autocast_enabled("cpu") and dtype is not torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
    elif weight.dtype is not dtype:
        return None
    if dtype not in DTYPES or weight.dim() != 2 or x.dim() < 2 or x.shape[-1] != weight.shape[1] or not x.numel():
        return None
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    return Dense(x.numel() // x.shape[-1], weight.shape[1], weight.shape[0], dtype)


def _product(path: str) -> products.Product:
    return products.onednn if path == ONEDNN else products.mm


def _forward(rows: Tensor, weight: Tensor, bias: Tensor | None, path: str) -> Tensor:
    return _product(path)(rows, weight.t(), bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, paths: tuple[str, ...]) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.paths = paths
        return _forward(rows, weight, bias, paths[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        rows, weight = ctx.saved_tensors
        # create_graph=True: these gradients will themselves be differentiated, which products.onednn cannot.
        _, for_input, for_weight = (TORCH,) * 3 if torch.is_grad_enabled() else ctx.paths
        needs = ctx.needs_input_grad
        return (
            _product(for_input)(grad, weight) if needs[0] else None,
            _product(for_weight)(grad.t(), rows) if needs[1] else None,
            grad.sum(0) if needs[2] else None,
            None,
        )


def _candidates(op: str, layer: Dense) -> dict[str, Callable[[], Tensor]]:
    """Both ways of computing one product of a layer on random data, and the same in float64."""
    shapes = (layer.rows, layer.inputs), (layer.outputs, layer.inputs), (layer.rows, layer.outputs)
    x, weight, grad = (torch.randn(shape).to(layer.dtype) for shape in shapes)
    operands = {"forward": (x, weight.t()), "input_gradient": (grad, weight), "weight_gradient": (grad.t(), x)}[op]
    theirs = partial(F.linear, x, weight) if op == "forward" else partial(torch.mm, *operands)
    ways: dict[str, Callable[[], Tensor]] = {TORCH: theirs}
    if products.onednn_works(layer.dtype):
        ways[ONEDNN] = partial(products.onednn, *operands)
    ways[tuning.EXACT] = lambda: torch.mm(*(operand.double() for operand in operands))
    return ways


def _describe(layer: Dense) -> str:
    return f"{layer.inputs} to {layer.outputs}, {layer.rows} rows, {str(layer.dtype)[6:]}"


TUNABLES = {
    question: tuning.Tunable(partial(_candidates, op), _describe, {F.linear: linear})
    for op, question in zip(_OPS, _QUESTIONS)
}
