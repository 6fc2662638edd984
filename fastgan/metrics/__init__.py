"""How far samples are from the data, by numbers that need no other network."""

from fastgan.metrics.sliced_wasserstein import SlicedWasserstein

__all__ = ["SlicedWasserstein"]
