"""Adam, without the copies that PyTorch makes and the compiler that it imports."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastgan import backend

_step = inspect.unwrap(torch.optim.Adam.step)


class Adam(torch.optim.Adam):
    """torch.optim.Adam, of the same results, without PyTorch's copies of channels_last gradients on CPUs.

    PyTorch's fused CPU kernel goes over the memory of a parameter, its gradient and its averages side by side. It
    makes a contiguous copy of a gradient that is not, and does not use it; and where a gradient or an average has
    another layout than the parameter, it updates a weight by the gradient of another. Here it is given views in the
    order of their memory, and what has another layout is brought to the parameter's first.

    PyTorch's optimizers import torch._dynamo when they are made, two seconds, to keep torch.compile out. These methods
    are theirs without that; inside a compiled function it is imported already.
    """

    add_param_group = inspect.unwrap(torch.optim.Adam.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Adam.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Adam.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Adam.zero_grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return _step(self, closure)

    def _init_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], *rest: Any) -> Any:
        found = super()._init_group(group, params, grads, *rest)
        if not group["fused"] or backend.inside() == "torch":
            return found
        averages = [each for each in rest[:3] if each]  # of the gradient, of its square, the latter's largest
        for index, parameter in enumerate(params):
            if parameter.device.type != "cpu" or parameter.dim() != 4:
                continue
            for tensors in (grads, *averages):
                if not _is_laid_like(tensors[index], parameter):
                    tensors[index].set_(torch.empty_like(parameter).copy_(tensors[index]))
            if _is_channels_last(parameter):
                for tensors in (params, grads, *averages):
                    tensors[index] = tensors[index].permute(0, 2, 3, 1)
        return found


def _is_channels_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _is_laid_like(x: Tensor, y: Tensor) -> bool:
    return x.stride() == y.stride() or all(size == 1 or a == b for size, a, b in zip(y.shape, x.stride(), y.stride()))
