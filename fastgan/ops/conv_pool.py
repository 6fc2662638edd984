"""A convolution and 2x2 average pooling as one convolution of stride 2."""

from __future__ import annotations

from torch import Tensor

from fastgan import backend as _backend
from fastgan.convolutions import merged
from fastgan.reference import conv_pool as reference


def conv_pool(
    x: Tensor,  # (N, C, H, W)
    weight: Tensor,  # (O, C / groups, k, l)
    bias: Tensor | None = None,  # (O,)
    groups: int = 1,
    *,
    backend: str = "auto",
) -> Tensor:  # (N, O, H // 2, W // 2)
    """A convolution of stride 1 with the zero padding that keeps the size, then 2x2 average pooling.

    Exactly a convolution of stride 2 with merged weights of (k + 1) (l + 1) taps; a 1x1 convolution moves above the
    pooling. Twice differentiable, like PyTorch's ops, of which it consists. On CPU; elsewhere, and for batches too
    small for the merge to pay, the pair of PyTorch's calls runs. The merge is in the dtype of the weight, also under
    autocast.

    Args:
        x: float32, bfloat16, float16 or float64, in any layout; H and W at least 2.
        weight: as of nn.Conv2d, k and l odd, of the dtype of x.
        bias: of the dtype of x.
        groups: of the channels, as in nn.Conv2d.
        backend: auto, or torch for the pair of calls.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a wrong shape, device, name or number.
        RuntimeError: a backend that it has no kernel of.
    """
    if _backend.traced():
        return reference.conv_pool(x, weight, bias, groups)
    merged.check("conv_pool", x, weight, bias, groups)
    if min(x.shape[2:]) < 2:
        raise ValueError(f"conv_pool: x must be at least 2x2, not shape {tuple(x.shape)}")
    if merged.runs("conv_pool", x, weight, groups, backend):
        return merged.pool(x, weight, bias, groups)
    return reference.conv_pool(x, weight, bias, groups)
