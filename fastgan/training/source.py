"""The data of a run: as its system needs them, and what the run remembers of them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastgan import data as datasets
from fastgan import strict_json
from fastgan.data import Batches
from fastgan.data.fields import Field, Images, Labels, listed
from fastgan.data.fitting import fitted
from fastgan.data.folder import RULES, Folder
from fastgan.data.identity import Listing, difference, identity
from fastgan.data.lazy import Pictures
from fastgan.data.registry import absolute
from fastgan.data.source import Apart, Together
from fastgan.data.sources.two_sides import TwoSides
from fastgan.files import replace_file
from fastgan.runs.run import Run, quoted
from fastgan.systems import System


def name_of(data: Any) -> str:
    """What config.yaml says of the data: by which they are found again, where they have a name or a path."""
    if isinstance(data, str | os.PathLike):
        return absolute(os.fspath(data))
    name = str(getattr(data, "name", type(data).__name__))
    return absolute(name) if isinstance(data, Pictures | TwoSides | Together | Apart) else name


def load_data(data: Any, system: System, known: Mapping[str, Any] | None = None, *, white: int | None = None) -> Any:
    """What `fastgan.data.load` loads by that name, in the system's size and channels; data made in Python as they are.

    known: what a checkpoint says of them. Pictures are found by the rules of that time. A new run, which has none,
    looks at what is done to the pictures, to tell of it.
    """
    source = data = os.fspath(data) if isinstance(data, os.PathLike) else data
    rules = RULES if known is None else known.get("rules", 1)
    if isinstance(data, str):
        try:
            source = fitted(datasets.load(data, white=white, rules=rules), system.inputs())
        except ValueError as error:
            if known is None or os.path.exists(data):
                raise
            raise ValueError(
                f"{error}. Where the data lie elsewhere now, --data PATH says where (in Python: data=); data made in "
                "Python go to Trainer.resume as data="
            ) from error
    elif white is not None:
        if not isinstance(source, Pictures):
            raise ValueError(f"white belongs to picture files, not to a {type(source).__name__}: leave it out")
        source = source.with_white(white)
    if known is None and isinstance(source, Pictures):
        source.survey  # noqa: B018
    if known is not None and isinstance(source, Folder) and source.rules != rules:
        return source.by_rules(rules)
    return source


def describe(source: Any, name: str, batches: Batches, system: System) -> dict[str, Any]:
    """What a checkpoint says of the data. ValueError if the system cannot train on them."""
    fields = batches.source.fields
    wanted = system.inputs()
    for key, field in wanted.items():
        if key in fields:
            _check_alike(source, name, fields[key], field, system)
        elif not isinstance(field, Labels):  # what lacks labels is told by the system that needs them
            raise ValueError(f"{system.name} trains on {key} ({field}), {name} has {listed(fields)}")
    known = identity(source)
    if 0 < system.classes < (classes := len(known["classes"])):
        raise ValueError(
            f"{system.name} was made for {system.classes} classes, {name} has {classes}: create the system with "
            f"classes={classes}"
        )
    used = {key: str(fields[key]) for key in wanted if key in fields}
    return {"name": name, "images": batches.count, "fields": used, **known}


def _check_alike(source: Any, name: str, have: Field, wanted: Field, system: System) -> None:
    """ValueError unless the data's field is of the size that the system trains on."""
    if not (isinstance(have, Images) and isinstance(wanted, Images)):
        if not isinstance(wanted, Labels) and have != wanted:
            raise ValueError(f"{system.name} trains on {wanted}, {name} has {have}: create the system for these")
        return
    if have.channels != wanted.channels:
        way = _way(source, f"data.with_channels({wanted.channels})")
        raise ValueError(
            f"{system.name} makes images of {wanted.channels} channels, {name} has {have.channels}: create the system "
            f"with channels={have.channels}, or {way}"
        )
    if have != wanted:
        size = wanted.height if wanted.height == wanted.width else (wanted.height, wanted.width)
        raise ValueError(
            f"{system.name} makes images of {wanted.height}x{wanted.width} pixels, {name} has "
            f"{have.height}x{have.width}: create the system with another resolution, or "
            f"{_way(source, f'data.resize({size})')}"
        )


def check_same(source: Any, before: dict[str, Any], now: dict[str, Any], run: Run, system: System) -> None:
    """ValueError, which says what has changed, if the data are not those that the run was trained on."""
    listings = None
    if isinstance(source, Folder) and (listing := _read_listing(run, before.get("digest"))):
        listings = listing, source.listing()
    changed = difference(before, now, listings)
    if changed:
        raise ValueError(
            f"the run in {run.path} was trained on other data: {changed}. The order of the images follows from their "
            f"number and order, so that a run goes on with the data it began with: put them back, or give their place "
            f"with --data. To train on the data as they are now, start a new run from these weights: fastgan train "
            f"{system.name} --data {quoted(now['name'])} --init-from {quoted(run.path)} --out DIRECTORY"
        )


def record(run: Run, data: Mapping[str, Any], source: Any) -> None:
    """Write what is known of the data beside the checkpoint, for whoever reads it: data.json, and of a folder its
    pictures, data.txt.gz, by which a later `check_same` tells which ones have changed."""
    replace_file(
        run.data, (strict_json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
    )
    if isinstance(source, Folder) and _read_listing(run, data["digest"]) is None:
        lines = [data["digest"], *(f"{'' if label is None else label}\t{path}" for path, label in source.listing())]
        # A name may hold anything but a zero byte and a slash, a line break among them.
        replace_file(run.listing, gzip.compress("\0".join(lines).encode(errors="surrogateescape"), 6, mtime=0))


def _read_listing(run: Run, digest: Any) -> Listing | None:
    """What `record` wrote of the data with that digest; None where it did not."""
    with suppress(OSError, EOFError, ValueError):
        text = gzip.decompress(run.listing.read_bytes()).decode(errors="surrogateescape")
        first, *lines = text.split("\0")
        if first == digest:
            split = (line.partition("\t") for line in lines)
            return [(path, int(label) if label else None) for label, _, path in split]
    return None


def _way(source: Any, change: str) -> str:
    """How the data are brought into another form: by a method, where they have it."""
    method = change.partition(".")[2].partition("(")[0]
    return f"use {change}" if hasattr(source, method) else "change the images in your data set"
