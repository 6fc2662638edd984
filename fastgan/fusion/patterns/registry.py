"""All patterns, and the search for them in the graph of one forward."""

from __future__ import annotations

from torch import fx, nn

from fastgan.fusion.patterns import (
    activation,
    bias_act,
    conv_pool,
    convolution,
    full_map,
    linear,
    norm_act,
    resize_conv,
)
from fastgan.fusion.patterns.pattern import Miss, Site

# The first that is found at a node is taken.
PATTERNS = (
    norm_act.PATTERN,
    full_map.PATTERN,
    resize_conv.PATTERN,
    conv_pool.PATTERN,
    bias_act.PATTERN,
    convolution.PATTERN,
    linear.PATTERN,
    activation.PATTERN,
)
# A module that holds none of these holds no pattern.
ANCHORS = (nn.modules.batchnorm._NormBase, nn.modules.conv._ConvNd, nn.Linear, nn.ELU, nn.Tanh)


def find(graph: fx.Graph, module: nn.Module) -> list[Site | Miss]:
    """All that is fused, or nearly, in the graph of a forward of `module`, in its order."""
    found: list[Site | Miss] = []
    taken: set[fx.Node] = set()
    for node in graph.nodes:
        miss: Miss | None = None  # the first, told where no other pattern is found at this node
        for pattern in PATTERNS:
            match = pattern.find(node, module)
            if isinstance(match, Miss):
                miss = miss or match
            elif match is not None and not taken.intersection(match.steps):
                found.append(match)
                taken.update(match.steps)
                break
        else:
            if miss:
                found.append(miss)
    return found
