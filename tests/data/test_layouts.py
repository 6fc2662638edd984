"""What a folder holds: its two sides, its parts, its tables."""

import csv
import json
import os
from pathlib import Path

import pytest

from fastgan.data.sources.parts import kept_for_test, named, rows_of
from fastgan.data.sources.sides import matched, sides_of, stem_of
from fastgan.data.sources.table import Table


def paths(*names):
    return [name.replace("/", os.sep) for name in names]


class TestParts:
    STEMS = tuple(f"{name}/{i:04}" for name in ("cats", "dogs") for i in range(1000))

    def test_a_tenth_is_kept(self):
        rows = {part: rows_of(self.STEMS, part, "x") for part in ("train", "test")}
        assert 160 < len(rows["test"]) < 240
        assert sorted(rows["train"] + rows["test"]) == list(range(2000))
        assert len({i % 1000 for i in rows["test"]}) > 150, "classes of the same file names are not split alike"

    def test_what_is_added_moves_nothing(self):
        before = {self.STEMS[i] for i in rows_of(self.STEMS[::2], "test", "x") for i in (2 * i,)}
        after = {self.STEMS[i] for i in rows_of(self.STEMS, "test", "x")}
        assert before == {stem for stem in after if stem in self.STEMS[::2]}

    def test_the_same_everywhere(self):
        kept = [stem for stem in self.STEMS[:40] if kept_for_test(stem)]
        assert kept == [f"cats/{i:04}" for i in (1, 11, 20, 22, 26, 35)]
        assert kept_for_test("cats\\0001")
        assert kept_for_test("e\u0301t\u00e9/12") == kept_for_test("\u00e9t\u00e9/12")

    def test_an_empty_part_is_an_error(self):
        with pytest.raises(ValueError, match=r"photos: of 1 pictures none falls into the part test, .*a tenth"):
            rows_of(self.STEMS[:1], "test", "photos")
        with pytest.raises(ValueError, match="a part of a data set is train or test, not 'val'"):
            rows_of(self.STEMS, "val", "photos")

    @pytest.mark.parametrize(
        ("names", "train", "test"),
        [
            (["train", "test", "val"], "train", "test"),
            (["training", "validation"], "training", "validation"),
            (["train2017", "val2017"], "train2017", "val2017"),
            (["Train", "dev", "holdout"], "Train", "dev"),
            (["train2014", "train2017"], None, None),
            (["cats", "dogs"], None, None),
        ],
    )
    def test_named_parts(self, names, train, test):
        assert (named(names, "train"), named(names, "test")) == (train, test)


class TestSides:
    @pytest.mark.parametrize(
        ("a", "b"),
        [("A", "B"), ("trainA", "trainB"), ("train_A", "train_B"), ("A/train", "B/train"), ("train/A", "train/B"),
         ("a", "b"), ("TrainA", "TrainB"), ("training-a", "training-b")],
    )  # fmt: skip
    def test_where_they_lie(self, a, b):
        found = sides_of(paths(f"{a}/1.png", f"{a}/sub/2.png", f"{b}/1.jpg", "preview.png"), None)
        assert found[:3] == (paths(f"{a}/1.png", f"{a}/sub/2.png"), paths(f"{b}/1.jpg"), ["preview.png"])
        assert found.named is ("train" in a.lower())
        stems = [stem_of(path, "a") for path in found.a]
        assert stems == ["1", "sub/2"]

    @pytest.mark.parametrize("layout", ["{part}{side}", "{part}_{side}", "{side}/{part}", "{part}/{side}"])
    @pytest.mark.parametrize("test", ["test", "val", "dev"])
    def test_parts(self, layout, test):
        of = {
            (part, side): f"{layout.format(part=part, side=side)}/1.png".replace("/", os.sep)
            for part in ("train", test)
            for side in "AB"
        }
        for asked, part in ((None, "train"), ("train", "train"), ("test", test)):
            found = sides_of(list(of.values()), asked)
            assert (found.a, found.b, found.named) == ([of[part, "A"]], [of[part, "B"]], True)
            assert len(found.others) == 2

    def test_a_part_that_is_not_there(self):
        with pytest.raises(ValueError, match="no folder of the part test, only of train"):
            sides_of(paths("trainA/1.png", "trainB/1.png"), "test")

    @pytest.mark.parametrize(
        "names",
        [("A/1.png",), ("A/1.png", "B/1.png", "C/1.png"), ("cats/1.png", "dogs/1.png"), ("1.png",), ("AB/1.png",),
         ("A.png", "B.png"), ("tRap/1.png",)],
    )  # fmt: skip
    def test_what_is_none(self, names):
        assert sides_of(paths(*names), None) is None

    def test_pairs_have_the_same_stem(self):
        a = [stem_of(path, "a") for path in paths("A/3.png", "A/1.png", "A/x/2.jpeg", "A/only.png", "A/1.jpg")]
        b = [stem_of(path, "b") for path in paths("B/1.jpg", "B/x/2.png", "B/2.png", "B/3.png")]
        assert matched(a, b) == ([0, 1, 2], [3, 0, 1], [("a", 3), ("a", 4), ("b", 2)])

    def test_the_side_may_end_the_stem(self):
        """As in the data sets that CycleGAN's authors give."""
        assert stem_of(paths("trainA/12_A.jpg")[0], "a") == stem_of(paths("trainB/12_B.jpg")[0], "b") == "12"
        assert stem_of(paths("trainA/12_B.jpg")[0], "a") == "12_B"
        assert stem_of(paths("trainA/a.jpg")[0], "a") == "a"
        assert stem_of("e\u0301.png") == "\u00e9"


FILES = paths("1.png", "2.png", "in/1.png", "in/2.png", "out/1.png", "out/2.png")


def write(root: Path, name: str, rows: list[dict]) -> Path:
    path = root / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


class TestTable:
    @pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
    def test_one_picture_a_row(self, tmp_path, name):
        rows = [
            {"file_name": "2.png", "text": "two, or more", "label": 2},
            {"file_name": "1.png", "text": "", "label": 1},
        ]
        remarks = []
        table = Table(write(tmp_path, name, rows), FILES, remarks)
        assert (table.files, table.texts, table.labels) == (
            {"image": ["2.png", "1.png"]}, ["two, or more", ""], ["2", "1"]
        )  # fmt: skip
        assert remarks == [f"{tmp_path}/{name} does not list 4 of 6 pictures, which are left out"]

    @pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
    def test_several_pictures_a_row(self, tmp_path, name):
        rows = [{"source_file_name": f"in/{i}.png", "target_file_name": f"out/{i}.png"} for i in (2, 1, 3)]
        remarks = []
        table = Table(write(tmp_path, name, rows), FILES, remarks)
        assert table.files == {"source": paths("in/2.png", "in/1.png"), "target": paths("out/2.png", "out/1.png")}
        assert (table.texts, table.labels) == ([], [])
        line = 4 if name.endswith("csv") else 3
        assert remarks[0] == f"{tmp_path}/{name} line {line}: no picture in/3.png, left out"

    def test_several_texts_of_a_picture(self, tmp_path):
        rows = [{"file_name": "1.png", "text": text} for text in ("one", "uno")]
        assert Table(write(tmp_path, "metadata.csv", rows), FILES, []).texts == ["one", "uno"]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("metadata.csv", "", "names the columns file_name, .*, not nothing"),
            ("metadata.csv", "text,label\na,b\n", "names the columns file_name, .*, not text, label"),
            ("metadata.csv", "file_name,text\n1.png\n", "line 2 has 1 columns, the first line 2"),
            ("metadata.csv", "file_name,text\n1.png,a,b\n", "line 2 has 3 columns, the first line 2: .* in quotes"),
            ("metadata.csv", "file_name,text\n,a\n", "line 2 has no file_name"),
            ("metadata.csv", "file_name\n../1.png\n", r"line 2: '\.\./1.png' leaves the folder"),
            ("metadata.csv", "file_name\nin/../../1.png\n", "leaves the folder"),
            ("metadata.csv", "file_name\n/etc/1.png\n", "leaves the folder"),
            ("metadata.csv", "file_name\nC:\\1.png\n", "leaves the folder"),
            ("metadata.csv", "file_name,text\n1.png,a\n2.png,a\n1.png,a\n", "line 4 says what line 2 says"),
            ("metadata.csv", "file_name\n9.png\n", "names no picture that is there"),
            ("metadata.csv", "file_name,label\n1.png,\n", "line 2: the label is empty"),
            ("metadata.csv", "file_name\n" + "x" * 200000, "is not CSV"),
            ("metadata.jsonl", '{"file_name": "1.png"}\n{"file', "line 2 is not JSON"),
            ("metadata.jsonl", '["1.png"]\n', 'line 1 must be an object such as {"file_name": ...}, not list'),
            ("metadata.jsonl", '{"file_name": "1.png"}\n{"text": "x"}\n', "line 2 has no file_name"),
            ("metadata.parquet", "no parquet", "is not parquet"),
        ],
    )  # fmt: skip
    def test_says_what_is_wrong(self, tmp_path, name, text, message):
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            Table(tmp_path / name, FILES, [])
