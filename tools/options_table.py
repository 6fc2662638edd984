"""Writes the tables of options in docs/ from the dataclasses: python tools/options_table.py. A test compares them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fastgan.options import Option, groups, options, text
from fastgan.runs.settings import Config

DOCS = Path(__file__).parents[1] / "docs"
ON_RESUME = {"free": "may change", "differs": "may change, another run", "live": "may change, another run", "never": ""}
FAMILIES = {
    groups.Networks: "every system that makes images of latents",
    groups.Translation: "every system that makes pictures of pictures, judged by patches",
    groups.Players: "a generator against a discriminator",
    groups.Adam: "trained by Adam",
    groups.Forgetting: "against a discriminator that knows few images by heart",
    groups.LabelNoise: "against a discriminator that is sure",
    groups.Augmentation: "few images; not `color` where the data's grays matter",
    groups.R1: "against oscillation and a discriminator that wins",
    groups.Decay: "the end of a long run",
}


def of_training() -> str:
    rows = [each for each in options(Config) if each.name not in ("system", "options")]
    return _table(("option", "default", "meaning", "when a run goes on"), map(_row, rows))


def of_families() -> str:
    lines = []
    for family, where in FAMILIES.items():
        lines += [f"| **{where}** | | | |"]
        lines += ["| " + " | ".join(_row(each)) + " |" for each in options(family)]
    head, rule = _table(("option", "default", "meaning", "when a run goes on"), ()).splitlines()
    return "\n".join([head, rule, *lines])


def written(page: str, name: str, table: str) -> str:
    """The page with the table between the marks of that name. ValueError where it has none."""
    marked = rf"(<!-- options: {name} -->\n).*?(<!-- end of options -->)"
    found, count = re.subn(marked, lambda marks: f"{marks[1]}\n{table}\n\n{marks[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the page must have one table of options named {name}, not {count}")
    return found


TABLES = {"training.md": ("training", of_training), "systems.md": ("families", of_families)}


def _row(each: Option) -> tuple[str, ...]:
    default = text(each.default)
    return (
        f"`{each.name}`",
        f"`{default}`" if default else "",
        each.meaning.replace("|", "\\|"),
        ON_RESUME[each.on_resume],
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [*map(list, [head]), *map(list, rows)]
    return "\n".join(["| " + " | ".join(lines[0]) + " |", "|" + "---|" * len(lines[0])] + [
        "| " + " | ".join(line) + " |" for line in lines[1:]
    ])  # fmt: skip


if __name__ == "__main__":
    for file, (name, table) in TABLES.items():
        path = DOCS / file
        path.write_text(written(path.read_text(), name, table()))
