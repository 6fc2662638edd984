"""The tables of options in the guides are those of the dataclasses."""

import importlib.util
from pathlib import Path

import pytest

from fastgan.options import groups

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("options_table", ROOT / "tools" / "options_table.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.mark.parametrize("file", tool.TABLES)
def test_tables(file):
    page = (ROOT / "docs" / file).read_text()
    name, table = tool.TABLES[file]
    assert tool.written(page, name, table()) == page, "python tools/options_table.py writes it"


def test_every_family_is_there():
    assert tuple(tool.FAMILIES) == groups.ALL
