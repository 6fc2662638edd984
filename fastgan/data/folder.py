"""A folder of pictures: what it can be is told from the names in it, what it is follows from what is wanted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from fastgan.data.decode import Half
from fastgan.data.fields import Field, LazyFields, Texts
from fastgan.data.lazy import SETTLED
from fastgan.data.problems import printable
from fastgan.data.sources.contents import contents
from fastgan.data.sources.files import Files
from fastgan.data.sources.names import Name, parsed
from fastgan.data.sources.parts import check_part
from fastgan.data.sources.sides import sides_of
from fastgan.data.sources.views import lacking, views_of

RULES = 3  # by which pictures and classes are found; a run goes on by those that it began with


class Folder(Files):
    """The pictures below a folder, sorted by their relative paths; they are told by content, found by extension.

    name: the path; `PATH@train` or `PATH@test` is a part of it, `PATH:right` or `PATH:B` says which half of its
        pictures, or which of its two sides, is the source of pairs (left and A unless said).
    root/CLASS/**/*.jpg: the first folder is the class, unless pictures lie at the root too; classes are in natural
    order, 2 before 10. Where the first folders are train, test and the like, root/train is taken for the root.
    Hidden files and folders are ignored, symbolic links followed, runs of FastGAN left out.
    root/metadata.csv, captions.csv and the like: see `Table`; what they do not list is left out. NAME.txt beside a
    picture NAME.jpg is its text.
    `fields` has whatever all of this can be; as it is, it is its pictures, classes and texts, and `adapted` gives what
    is wanted.
    rules: 2: metadata and texts beside pictures are not read. 1, where a checkpoint names none: every first folder is a
        class, in the order of their characters, and what runs have drawn is data, too.
    Raises ValueError where there is no picture or a table cannot be used.
    """

    def __init__(self, name: str, rules: int = RULES) -> None:
        self._name = parsed(name) if rules > 2 else Name(name)
        self.rules = rules
        held = contents(self._name.path, self._name.part, rules)
        several = bool(held.columns)  # labels and texts are those of its rows then
        super().__init__(
            name,
            held.root,
            held.paths,
            labels=[] if several else held.labels,
            texts=[] if several else held.texts,
            beside=held.beside,
        )
        if rules == 1:
            self.classes = tuple(sorted(self.classes))
            self._label_by(held.labels)
        self.remarks, self.left_out, self.scanned = held.remarks, held.left_out, held.scanned
        self.source, self.asked = self._name.source, self._name.part
        self.sides = sides_of(held.found, self.asked) if rules > 2 else None
        self.columns, self.of_rows = held.columns, (held.labels, held.texts)
        self._entered = held.entered

    @property
    def fields(self) -> Mapping[str, Field]:
        return LazyFields({name: partial(self.own_field, name) for name in self.own}, self._further)

    @property
    def parts(self) -> tuple[Any]:
        """As it is where nobody says what is wanted: its pictures, with their classes and texts."""
        return (self if self._kept is not None else self.only(*self.own),)

    def adapted(self, wanted: Mapping[str, Field]) -> Any:
        """Its pictures, or pairs or domains or whatever else the wanted fields name. ValueError for what it is not."""
        if all(map(self.has, wanted)):
            return super().adapted(wanted)
        for view in self._views():
            if set(wanted) <= set(view.fields):
                return view.adapted(wanted)
        raise lacking(self, wanted)

    def by_rules(self, rules: int) -> Folder:
        """The same folder by other rules."""
        return self._like(Folder(self.name, rules))

    def part(self, part: str) -> Folder:
        """The part "train" or "test": what folders of such names hold, else nine tenths and a tenth of the pictures,
        told from their stems, so that what is added moves nothing. ValueError for another part or an empty one."""
        check_part(part)
        if self.asked:
            raise ValueError(
                f"{printable(self.name)} is a part already, which has no parts: take them of "
                f"{printable(str(self._whole))}"
            )
        return self._like(Folder(str(self._name._replace(part=part)), self.rules))

    @property
    def _whole(self) -> Name:
        return self._name._replace(part=None)

    @cached_property
    def text_field(self) -> Texts:
        """That of the whole data set where this is a part of it: both parts have the same tokens."""
        if self.text is None and self.asked:
            return Folder(str(self._whole), self.rules).text_field
        return super().text_field

    def training_texts(self) -> Iterable[str]:
        return self.captions if self._entered else super().training_texts()

    def files(self, paths: Sequence[str], **described: Any) -> Files:
        """Other pictures of the same folder, as large and of as many channels as is wanted of these."""
        return self._like(Files(self.name, self._name.path, paths, **described))

    def half(self, half: Half) -> Any:
        """A half of each picture."""
        other = self.only("image")._changed(_half=half)
        other.__dict__.pop("survey", None)
        return other

    def _like(self, other: Any) -> Any:
        return other._changed(**{key: vars(self)[key] for key in SETTLED})

    def _views(self) -> Iterable[Any]:
        return views_of(self) if self._kept is None and self.rules > 2 else ()

    def _further(self) -> Mapping[str, Callable[[], Field]]:
        """The fields of what it can be beside pictures."""
        found: dict[str, Callable[[], Field]] = {}
        for view in self._views():
            for name in view.fields:
                found.setdefault(name, partial(_field_of, view, name))
        return found


def _field_of(source: Any, name: str) -> Field:
    return source.fields[name]
