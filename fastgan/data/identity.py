"""What tells one data set from another: the names of its classes and a digest; and in words, what has changed."""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor

from fastgan.data.fields import Texts
from fastgan.data.folder import RULES, Folder
from fastgan.data.gaussians import Points
from fastgan.data.hub import HubPictures, is_hugging_face, wrapped
from fastgan.data.images import ImageData, pixel_digest
from fastgan.data.lazy import LazyPictures
from fastgan.data.problems import examples
from fastgan.data.source import Apart, Brought, Tensors, Together
from fastgan.data.sources.captioned import Captioned
from fastgan.data.sources.files import Files
from fastgan.data.sources.two_sides import TwoSides

ROWS = 16  # of a table whose pictures are looked at

Listing = Sequence[tuple[str, int | None]]  # path and label of every picture, in order


def identity(source: Any) -> dict[str, Any]:
    """`classes`: their names.   `digest`: of the paths and labels of a folder, in order; of labels and some pixels
    where they are in memory; of labels and some files of a table; of the labels of a torchvision data set; of what
    pairs and domains are put together of; "" where nothing is known but the number, as of a stream.   `vocabulary`: the
    words of its tokens, where it has texts."""
    if is_hugging_face(source):
        source = wrapped(source)
    if isinstance(source, Brought):
        source = source.data
    classes = getattr(source, "classes", ())
    known: dict[str, Any] = {"classes": [str(name) for name in classes] if isinstance(classes, list | tuple) else []}
    known["digest"] = _digest(source)
    if words := _words(source):
        known["vocabulary"] = list(words)
    if isinstance(source, Folder):
        known |= {"rules": source.rules, "left_out": dict(source.left_out)}
    elif isinstance(source, TwoSides | Apart | Together):
        known["rules"] = RULES
    return known


def listing_digest(listing: Listing) -> str:
    return _sha(f"{composed(path)}\t{'' if label is None else label}\n".encode(errors="surrogateescape")
                for path, label in listing)  # fmt: skip


def composed(text: str) -> str:
    """In the Unicode form that most systems write: a folder is the same after macOS has copied it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def difference(
    before: Mapping[str, Any], now: Mapping[str, Any], listings: tuple[Listing, Listing] | None = None
) -> str | None:
    """What of `before` is otherwise `now`, each as `identity` gives it with the number of `images`; None if nothing.

    listings: those of before and now, where they are known. What an older checkpoint does not say is not compared.
    """
    said: list[str] = []
    if before.get("images") != now["images"]:
        said.append(f"{before.get('images')} images then, {now['images']} now")
    fields = [known.get("fields") for known in (before, now)]
    if all(fields) and fields[0] != fields[1]:
        said.append(f"{_told(fields[0])} then, {_told(fields[1])} now")
    then, since = (list(map(composed, known.get("classes") or ())) for known in (before, now))
    if "classes" in before and then != since:
        said.append(_classes(then, since, listings))
    elif before.get("digest") and before["digest"] != now["digest"]:
        said += _pictures(*listings) if listings else []
        said = said or ["as many images, but others, or in another order or of other classes"]
    return "; ".join(said) or None


def _told(fields: Any) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in fields.items())


def _classes(before: Sequence[str], now: Sequence[str], listings: tuple[Listing, Listing] | None) -> str:
    gone, new = ([name for name in names if name not in others] for names, others in ((before, now), (now, before)))
    said = []
    if listings:
        then, since = (_members(listing, names) for listing, names in zip(listings, (before, now)))
        renamed = {}
        for old in gone:
            if to := next((name for name in new if since[name] == then[old]), None):
                renamed[old] = to
                new.remove(to)
        gone = [name for name in gone if name not in renamed]
        said += [f"classes renamed: {examples([f'{old} -> {to}' for old, to in renamed.items()])}"] if renamed else []
    said += [f"classes removed: {examples(gone)}"] if gone else []
    said += [f"classes added: {examples(new)}"] if new else []
    return "; ".join(said) or f"classes in another order: {examples(before)} then, {examples(now)} now"


def _members(listing: Listing, names: Sequence[str]) -> dict[str, set[str]]:
    """The paths below the folder of each class."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path, label in listing:
        if label is not None:
            found[names[label]].add(composed(path).partition("/")[2] or path)
    return found


def _pictures(before: Listing, now: Listing) -> list[str]:
    then, since = ({composed(path): label for path, label in listing} for listing in (before, now))
    gone, new = [path for path in then if path not in since], [path for path in since if path not in then]
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in new:
        places[os.path.basename(path)].append(path)
    moved = {path: places[os.path.basename(path)].pop(0) for path in gone if places[os.path.basename(path)]}
    to = set(moved.values())
    relabelled = [path for path in since if path in then and then[path] != since[path]]
    said = []
    for what, paths in (
        ("moved", [f"{old} -> {path}" for old, path in moved.items()]),
        ("removed", [path for path in gone if path not in moved]),
        ("added", [path for path in new if path not in to]),
        ("of another class", relabelled),
    ):
        if paths:
            said.append(f"pictures {what}: {len(paths)}, such as {examples(paths)}")
    return said or ["the same pictures in another order"]


def _words(source: Any) -> tuple[str, ...]:
    if isinstance(source, Together | Apart):
        text = source.fields.get("text")
        return text.words if isinstance(text, Texts) else ()
    has_text = source.has("text") if isinstance(source, LazyPictures) else bool(getattr(source, "captions", ()))
    return source.text_field.words if has_text and isinstance(source, Captioned) else ()


def _digest(source: Any) -> str:
    if isinstance(source, TwoSides):
        return f"sides:{_sha(_digest(side).encode() for side in (source.a, source.b))}"
    if isinstance(source, Apart):
        return f"apart:{_sha(_digest(part).encode() for part in source.parts)}"
    if isinstance(source, Together):
        return f"together:{_sha(f'{key} {_digest(of)} {there} '.encode() for key, of, there in source.members())}"
    if isinstance(source, Files):
        return f"listing:{source.half_taken}{listing_digest(source.listing())}"
    if isinstance(source, ImageData):
        return f"pixels:{source.digest or pixel_digest(source.images, source.labels)}"
    if isinstance(source, Tensors):
        values = dict(source.tensors)
        return f"pixels:{pixel_digest(values.pop('image', next(iter(values.values()))), values.get('label'))}"
    if isinstance(source, Tensor):
        return f"pixels:{pixel_digest(source, None)}"
    if isinstance(source, Points):
        return f"points:{source.name}"  # the last bits of their coordinates are the machine's
    if isinstance(source, HubPictures):
        return f"rows:{_sha(_rows(source))}"
    targets = getattr(source, "targets", None)
    if isinstance(targets, list | tuple | Tensor):
        with suppress(TypeError, ValueError):  # a data set may call anything by that name
            return f"labels:{_sha([str([int(label) for label in targets]).encode()])}"
    return ""


def _rows(source: HubPictures) -> Iterable[bytes]:
    count = len(source)
    for i in sorted({i * count // ROWS for i in range(ROWS)}):
        yield source.known(i)
    for i in range(count):
        label = source._label(i)
        if label is None:
            return
        yield b"%d " % label


def _sha(parts: Iterable[bytes]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()
