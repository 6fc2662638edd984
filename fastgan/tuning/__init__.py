"""What was measured to be fastest on this machine: `tune` measures and remembers, `choice` answers."""

from __future__ import annotations

from fastgan.tuning.choices import EXACT, TORCH, Tunable, choice, forget, found, register
from fastgan.tuning.measure import Measured, Report, tune

__all__ = ["EXACT", "TORCH", "Measured", "Report", "Tunable", "choice", "forget", "found", "register", "tune"]
