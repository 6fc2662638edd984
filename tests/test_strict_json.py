"""No file of the package holds NaN, which is no JSON."""

import ast
import json
import math
from pathlib import Path

import pytest

from fastgan import strict_json


def refuse(word):
    raise ValueError(f"{word} is no JSON")


def test_what_is_not_finite_is_null():
    value = {"a": math.nan, "b": [math.inf, 1.5, (-math.inf, 2)], "c": {"d": True, "e": None, "f": 3, "g": "NaN"}}
    text = strict_json.dumps(value, indent=1)
    assert json.loads(text, parse_constant=refuse) == {
        "a": None, "b": [None, 1.5, [None, 2]], "c": {"d": True, "e": None, "f": 3, "g": "NaN"},
    }  # fmt: skip


def test_numbers_stay_as_they_are():
    value = {"step": 3, "loss": 0.1 + 0.2, "tiny": 5e-324}
    assert strict_json.dumps(value) == json.dumps(value)


@pytest.mark.parametrize("file", sorted(Path(strict_json.__file__).parent.rglob("*.py")), ids=lambda file: file.name)
def test_who_writes_json(file):
    """Whoever writes a file takes `strict_json`; the rest are digests and a pipe between processes of our own."""
    own = {"strict_json.py", "classifier.py", "store.py", "isolation.py"}
    calls = [
        node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("dumps", "dump")
        and isinstance(node.value, ast.Name) and node.value.id == "json"
    ]  # fmt: skip
    assert not calls or file.name in own
