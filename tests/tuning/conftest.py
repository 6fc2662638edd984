from __future__ import annotations

import pytest

from fastgan import tuning
from fastgan.convolutions import rules


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, which nothing is known from."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FASTGAN_CACHE", str(folder))
    tuning.forget()
    yield folder
    tuning.forget()


@pytest.fixture
def small_layers(monkeypatch):
    """Layers of any size are tunable."""
    monkeypatch.setattr(rules, "LEAST_WEIGHT", 0)
