"""What `fastgan.tune` found to be fastest on this machine: `choice` answers, `store` keeps it."""

from __future__ import annotations

from fastgan.tuning.choices import EXACT, TORCH, Tunable, choice, forget, found

__all__ = ["EXACT", "TORCH", "Tunable", "choice", "forget", "found"]
