"""The fused operations: each validates, chooses a backend and is differentiable twice."""

from fastgan.ops.norm_act import norm_act

__all__ = ["norm_act"]
