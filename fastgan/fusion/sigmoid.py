"""A Sigmoid at the end of a discriminator: right with BCELoss, wrong with losses that take logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import fx, nn
from torch.utils import _pytree as pytree

from fastgan.fusion.plans import Plans

_SHAPES = (nn.Flatten, nn.Unflatten, nn.Identity)
_SHAPE_METHODS = {"view", "reshape", "flatten", "squeeze", "unsqueeze", "contiguous", "float"}
_UPSAMPLING = (nn.modules.conv._ConvTransposeNd, nn.Upsample, nn.PixelShuffle)
_ADVICE = (
    "the losses of fastgan.losses take logits; with them, and under autocast on CUDA (where BCELoss refuses to run), "
    "remove the Sigmoid; with BCELoss keep it"
)


class Ending(NamedTuple):
    path: str  # of the Sigmoid, or of the module whose forward calls the function
    pattern: str
    advice: str
    certain: bool  # the layer before has one output: a discriminator's


def trailing(plans: Plans) -> Ending | None:
    """The Sigmoid after a convolution or linear layer with which a network ends. None for a network that upsamples,
    which is a generator of pictures in [0, 1]."""
    if any(isinstance(module, _UPSAMPLING) for module in plans.root.modules()):
        return None
    for steps in _ends(plans, "", plans.root):
        shapeless = (step for step in steps if not _is_shape(step[1]))
        path, last = next(shapeless, ("", None))
        if not isinstance(last, nn.Sigmoid) and last != "sigmoid":
            continue
        _, layer = next(shapeless, ("", None))
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            text = "the network ends in a Sigmoid: " if outputs == 1 else "if this is a discriminator: "
            name = last if isinstance(last, str) else type(last).__name__
            return Ending(path, f"{type(layer).__name__} -> {name}", text + _ADVICE, outputs == 1)
    return None


_Step = tuple[str, Any]  # a path, and the module at it or the name of a function that the forward there calls


def _ends(plans: Plans, path: str, module: nn.Module) -> list[Iterator[_Step]]:
    """For each output of the module at `path`, what computes it, backwards, into the modules that it consists of."""
    graph = plans.graph(module)
    if graph is not None:
        (output,) = (node for node in graph.nodes if node.op == "output")
        leaves = pytree.tree_leaves(output.args)
        return [_steps(plans, path, module, leaf) for leaf in leaves if isinstance(leaf, fx.Node)]
    children = list(module.named_children())
    # the official DCGAN example, DistributedDataParallel, what torch.compile returns
    if len(children) == 1 and not type(module).__module__.startswith(("torch.nn.modules.", "torch.nn.utils.")):
        return _ends(plans, _join(path, children[0][0]), children[0][1])
    return [iter([(path, module)])]


def _steps(plans: Plans, path: str, module: nn.Module, node: Any) -> Iterator[_Step]:
    while isinstance(node, fx.Node) and node.op != "placeholder":
        if node.op == "call_module":
            name = str(node.target)
            ends = _ends(plans, _join(path, name), module.get_submodule(name))
            yield from ends[0] if len(ends) == 1 else iter([(path, None)])
        else:
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            yield path, str(name).strip("_")
        node = node.args[0] if node.args else node.kwargs.get("input")


def _is_shape(step: Any) -> bool:
    return isinstance(step, _SHAPES) or (isinstance(step, str) and step in _SHAPE_METHODS)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
