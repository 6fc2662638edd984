"""What a folder is, once somebody wants fields of it: pairs, domains, halves, rows of pictures, texts, parts."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.data import Batches, Images, Labels, Texts, load
from fastgan.data.folder import RULES
from fastgan.data.identity import identity
from fastgan.data.registry import absolute
from fastgan.data.sources.names import part_of
from fastgan.data.texts import END, START
from tests.data.picture_files import encoded, folder, picture, pixels

PAIR = {"source": Images(3, 24, 24), "target": Images(3, 24, 24)}
DOMAINS = {"a": Images(3, 24, 24), "b": Images(3, 24, 24)}


def tensor(index, *size):
    return torch.from_numpy(pixels(index, *size)).permute(2, 0, 1)


def save(path, index, *size):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(index, *size).save(path)


def pairs(root, count=6, a="A", b="B", first=0):
    """a/NN.png is picture NN, b/NN.png picture 100 + NN."""
    for i in range(first, first + count):
        save(root / a / f"{i:02}.png", i)
        save(root / b / f"{i:02}.png", 100 + i)
    return root


def halves(root, count=6):
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        wide = Image.new("RGB", (48, 24))
        wide.paste(picture(i), (0, 0))
        wide.paste(picture(100 + i), (24, 0))
        wide.save(root / f"{i:02}.png")
    return root


def of_columns(root, count=6):
    pairs(root, count, "in", "out")
    rows = [f"in/{i:02}.png,out/{i:02}.png,no {i}" for i in range(count)]
    (root / "metadata.csv").write_text("\n".join(["source_file_name,target_file_name,text", *rows]))
    return root


def rows(source):
    """The numbers of the pictures of each row, as they are read."""
    known = {tensor(i).numpy().tobytes(): i for i in (*range(20), *range(100, 120))}
    read = [source.read(i)[0] for i in range(len(source))]
    return [tuple(known[row[name].numpy().tobytes()] for name in source.fields) for row in read]


class TestPairs:
    @pytest.mark.parametrize("make", [pairs, halves, of_columns])
    def test_of_every_layout(self, tmp_path, make):
        source = load(make(tmp_path)).adapted(PAIR)
        assert source.groups == (("source", "target"),)
        assert dict(source.fields) == PAIR
        assert sorted(rows(source)) == [(i, 100 + i) for i in range(6)]

    @pytest.mark.parametrize("make", [pairs, halves, of_columns])
    def test_what_a_folder_could_be_is_in_its_fields(self, tmp_path, make):
        fields = load(make(tmp_path)).fields
        assert {"image", "source", "target"} <= set(fields)
        assert fields["target"] == Images(3, 24, 24)

    @pytest.mark.parametrize(("make", "source"), [(pairs, "B"), (halves, "right")])
    def test_which_is_the_source_can_be_said(self, tmp_path, make, source):
        make(tmp_path)
        for data in (load(tmp_path, source=source), load(f"{tmp_path}:{source}")):
            assert data.name == f"{tmp_path}:{source}"
            assert sorted(rows(data.adapted(PAIR))) == [(100 + i, i) for i in range(6)]

    def test_sizes_of_their_own(self, tmp_path):
        for i in range(3):
            save(tmp_path / "A" / f"{i}.png", i, 8, 8)
            save(tmp_path / "B" / f"{i}.png", i, 32, 32)
        source = load(tmp_path)
        assert (source.fields["source"], source.fields["target"]) == (Images(3, 8, 8), Images(3, 32, 32))
        row, _ = source.adapted({"source": Images(1, 8, 8), "target": Images(3, 16, 16)}).read(0)
        assert (tuple(row["source"].shape), tuple(row["target"].shape)) == ((1, 8, 8), (3, 16, 16))

    @pytest.mark.parametrize("fit", ["crop", "stretch"])
    def test_of_unequal_sizes_are_fitted(self, tmp_path, fit):
        for i in range(3):
            save(tmp_path / "A" / f"{i}.png", i, 16, 48)
            save(tmp_path / "B" / f"{i}.png", i, 48, 24)
        wanted = Images(3, 16, 24, fit)
        row, _ = load(tmp_path).adapted({"source": wanted, "target": wanted}).read(1)
        square = pixels(1, 16, 48)[:, 12:36] if fit == "crop" else pixels(1, 16, 48)
        expected = Image.fromarray(square).resize((24, 16), Image.Resampling.BICUBIC)
        assert torch.equal(row["source"].permute(1, 2, 0), torch.from_numpy(np.array(expected)))
        assert row["target"].shape == (3, 16, 24)

    def test_what_has_no_partner_is_left_out_and_named(self, tmp_path):
        pairs(tmp_path, 4)
        save(tmp_path / "A" / "x.png", 9)
        save(tmp_path / "B" / "y.png", 9)
        source = load(tmp_path).adapted(PAIR)
        assert rows(source) == [(i, 100 + i) for i in range(4)]
        assert Batches(source, 2, workers=0).problems()[0] == (
            f"{tmp_path}: 2 of 10 pictures have no partner and are left out: A/x.png, B/y.png"
        )

    def test_one_bad_picture_leaves_out_its_pair(self, tmp_path):
        pairs(tmp_path, 4)
        (tmp_path / "B" / "01.png").write_bytes(b"no picture")
        source = load(tmp_path).adapted(PAIR)
        assert rows(source) == [(0, 100), (2, 102), (2, 102), (3, 103)]
        assert source.read(1)[1][0].picture == os.path.join("B", "01.png")

    def test_a_picture_that_is_not_two_beside_each_other(self, tmp_path):
        halves(tmp_path, 12)
        picture(3, 24, 30).save(tmp_path / "03.png")
        source = load(tmp_path).adapted(PAIR)
        assert source.read(3)[1][0] == ("03.png", "30x24 pixels, not twice as wide as high", True)
        asked = load(tmp_path, source="left").adapted({"source": Images(3, 24, 15), "target": Images(3, 15, 15)})
        assert not asked.read(3)[1]

    def test_pictures_of_a_pair_belong_together_whatever_is_drawn(self, tmp_path):
        source = load(pairs(tmp_path, 6)).adapted(PAIR)
        known = {(tensor(i).float() / 127.5 - 1).numpy().tobytes(): i for i in (*range(6), *range(100, 106))}
        batches = Batches(source, 4, flip=True, workers=0)
        for _ in range(6):
            batch = next(batches)
            for one, other in zip(batch.source.contiguous(), batch.target.contiguous()):
                first = known.get(one.numpy().tobytes())
                second = known.get(other.numpy().tobytes())
                if first is None:  # mirrored, and so is the other
                    first, second = (known[image.flip(2).contiguous().numpy().tobytes()] for image in (one, other))
                assert second == first + 100

    def test_two_folders_anywhere(self, tmp_path):
        pairs(tmp_path / "x", 4, "photos", "elsewhere")
        a, b = tmp_path / "x" / "photos", tmp_path / "x" / "elsewhere"
        data = load(a, target=b)
        assert data.name == f"{a}=>{b}"
        assert rows(data.adapted(PAIR)) == rows(load(data.name).adapted(PAIR)) == [(i, 100 + i) for i in range(4)]
        assert Batches(data, 2, workers=0).source.groups == (("source", "target"),), "pairs, where nobody wants else"
        assert load(a, 8, 1, target=b).fields["target"] == Images(1, 8, 8)

    def test_says_what_is_wrong(self, tmp_path):
        plain = folder(tmp_path / "plain", 4, ())
        with pytest.raises(
            ValueError, match=r"has no source, target; it has image \(.*; pairs and domains are told from"
        ):
            load(plain).adapted(PAIR)
        for i in range(3):
            save(tmp_path / "others" / "A" / f"x{i}.png", i)
            save(tmp_path / "others" / "B" / f"y{i}.png", i)
        with pytest.raises(
            ValueError, match=r"no picture of the one side is called like .* such as A/x0.png, B/y0.png"
        ):
            load(tmp_path / "others").adapted(PAIR)
        with pytest.raises(ValueError, match=r"left or right .*, or A or B .*, not 'up'"):
            load(plain, source="up")
        with pytest.raises(ValueError, match="has no sides A and B of which B could be the source"):
            load(plain, source="B").adapted(PAIR)
        with pytest.raises(ValueError, match="the source is A, but the name says B"):
            load(f"{pairs(tmp_path / 'p')}:B", source="A")
        with pytest.raises(ValueError, match="pairs are told from the names of files: give two folders"):
            load("digits", target="emoji").adapted(PAIR)
        with pytest.raises(ValueError, match="emoji has no side B"):
            load("emoji:B")


class TestDomains:
    @pytest.mark.parametrize("make", [pairs, halves])
    def test_two_groups(self, tmp_path, make):
        source = load(make(tmp_path)).adapted(DOMAINS)
        assert source.groups == (("a",), ("b",))
        assert [sorted(rows(part)) for part in source.parts] == [
            [(i,) for i in range(6)], [(100 + i,) for i in range(6)],
        ]  # fmt: skip

    def test_of_unequal_length_and_other_names(self, tmp_path):
        folder(tmp_path / "trainA", 5, ())
        folder(tmp_path / "trainB", 3, ("wild", "tame"))
        folder(tmp_path / "testA", 2, ())
        folder(tmp_path / "testB", 2, ())
        data = load(tmp_path)
        source = data.adapted(DOMAINS)
        assert [len(part) for part in source.parts] == [5, 3]
        assert len(data) == 12, "as pictures, it is all of them"
        said = Batches(source, 2, workers=0).problems()[0]
        assert (
            "taken are 5 pictures of the one side and 3 of the other, left out 4 of other parts or of neither" in said
        )
        test = data.part("test")
        assert [len(part) for part in test.adapted(DOMAINS).parts] == [2, 2]
        assert (len(test), test.name) == (4, f"{tmp_path}@test")

    def test_of_any_two_data_sets(self, tmp_path):
        data = load(folder(tmp_path, 4, ()), target="emoji")
        assert set(data.fields) == {"a", "b"}, "nothing is called alike"
        assert set(load("digits", target="emoji").fields) == {"a", "b"}, "the numbers of rows are no names"
        batch = next(Batches(data.adapted({"a": Images(3, 16, 16), "b": Images(3, 16, 16)}), 4, workers=0))
        assert (tuple(batch.a.shape), tuple(batch.b.shape)) == ((4, 3, 16, 16), (4, 3, 16, 16))

    def test_of_one_picture(self, tmp_path):
        folder(tmp_path / "A", 1, ())
        folder(tmp_path / "B", 3, ())
        with pytest.raises(ValueError, match="the domain a has 1 picture: give each domain 2 or more"):
            load(tmp_path).adapted(DOMAINS)

    def test_neither(self, tmp_path):
        data = load(pairs(tmp_path / "x") / "A", target=tmp_path / "x" / "B")
        with pytest.raises(ValueError, match=r"has pairs \(source, target\) or domains \(a, b\), not image"):
            data.adapted({"image": Images(3, 8, 8)})


class TestPictures:
    """As pictures, all of these are what they were before anybody knew of pairs."""

    @pytest.mark.parametrize("make", [pairs, halves, of_columns])
    def test_all_of_them(self, tmp_path, make):
        data = load(make(tmp_path))
        source = data.adapted({"image": Images(3, 8, 8)})
        assert len(source) == len(data) == (6 if make is halves else 12)
        assert next(Batches(data, 2, workers=0)).image.shape == (2, 3, 24, 24)

    def test_the_headers_are_read_where_they_are_needed_only(self, tmp_path, monkeypatch):
        data = load(folder(tmp_path), 8, 3)
        monkeypatch.setattr(type(data), "_headers", lambda self: pytest.fail("headers were read"))
        assert data.adapted({"image": Images(3, 8, 8), "label": Labels()}).has("label")
        next(Batches(data, 2, workers=0))
        assert data.fields["image"] == Images(3, 8, 8)

    def test_no_header_is_read_where_all_is_said(self, tmp_path, monkeypatch):
        data = load(folder(tmp_path))
        monkeypatch.setattr(type(data), "_headers", lambda self: pytest.fail("headers were read"))
        next(Batches(data.adapted({"image": Images(3, 8, 8), "label": Labels()}), 2, workers=0))

    def test_what_is_guessed_is_told(self, tmp_path):
        folder(tmp_path, 3, (), height=24, width=48)
        picture(1, 24, 24, 1).save(tmp_path / "gray.png")
        assert any("1 of 4 pictures are gray" in line for line in Batches(load(tmp_path), 2, workers=0).problems())

    def test_runs_that_exist_know_no_metadata(self, tmp_path):
        folder(tmp_path, 4)
        (tmp_path / "metadata.csv").write_text("file_name,text\ncats/000.png,a cat\n")
        (tmp_path / "dogs" / "001.txt").write_text("a dog")
        data = load(tmp_path)
        assert (len(data), data.classes, data.captions) == (1, ("cats",), ("a cat",))
        before = data.by_rules(2)
        assert (len(before), before.classes, list(before.captions)) == (4, ("cats", "dogs"), [])
        (tmp_path / "metadata.csv").write_text("of something else\n1\n")
        assert load(tmp_path, rules=2).listing() == before.listing()
        with pytest.raises(ValueError, match=r"names the columns file_name, .*, not of something else"):
            load(tmp_path)


class TestTexts:
    def captions(self, root, *texts):
        folder(root, len(texts), ())
        for i, text in enumerate(texts):
            if text is not None:
                (root / f"{i:03}.txt").write_text(text)
        return root

    def test_beside_pictures(self, tmp_path):
        data = load(self.captions(tmp_path, "a red cat\n", "a dog", "A blue\ncat"))
        assert data.captions == ("a red cat", "a dog", "A blue cat")
        assert not data.remarks, "they are no files of kinds that are not read"
        words = data.fields["text"].words
        assert data.fields["text"] == Texts(5)
        assert words[4:6] == ("a", "cat")
        batch = next(Batches(data, 3, workers=0))
        assert batch.text.shape == (3, 5)
        assert sorted(data.vocabulary.decode(batch.text)) == ["a blue cat", "a dog", "a red cat"]
        assert data.texts([2, 0]) == ["A blue cat", "a red cat"]

    def test_as_they_are_wanted(self, tmp_path):
        data = load(self.captions(tmp_path, "a cat", "a dog"))
        wanted = Texts(7, (*data.vocabulary.words[:4], "dog", "a"))
        source = data.adapted({"image": Images(3, 8, 8), "text": wanted})
        assert source.read(1)[0]["text"].tolist() == [START, 5, 4, END, 0, 0, 0]
        assert source.read(0)[0]["text"].tolist() == [START, 5, 1, END, 0, 0, 0]
        assert source.vocabulary.words == wanted.words
        assert set(data.adapted({"text": Texts(6)}).read(0)[0]) == {"text"}
        with pytest.raises(ValueError, match="the text 'a cat' takes 4 tokens with start and end, the field has 3"):
            data.adapted({"text": Texts(3)})

    def test_pictures_without_are_left_out_where_texts_are_wanted(self, tmp_path):
        data = load(self.captions(tmp_path, "a cat", None, "", "a dog"))
        source = data.adapted({"image": Images(3, 24, 24), "text": Texts(9)})
        assert [source.picture_name(i) for i in range(len(source))] == ["000.png", "003.png"]
        assert source.remarks == [f"{tmp_path}: 2 of 4 pictures have no text and are left out: 001.png, 002.png"]
        assert len(data.adapted({"image": Images(3, 24, 24)})) == 4

    def test_none(self, tmp_path):
        data = load(self.captions(tmp_path, "", ""))
        with pytest.raises(ValueError, match=r"none of 2 pictures has a text, such as 000.png, 001.png"):
            data.adapted({"text": Texts(9)})
        with pytest.raises(ValueError, match=r"has no text; it has image .*; texts from NAME.txt beside"):
            load(folder(tmp_path / "plain", 2, ())).adapted({"text": Texts(9)})

    def test_of_a_table_of_parquet(self, tmp_path):
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        folder(tmp_path, 3, ())
        rows = [{"file_name": f"{i:03}.png", "text": f"number {i}"} for i in (2, 1)]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "metadata.parquet")
        assert load(tmp_path).captions == ("number 2", "number 1")

    def test_of_a_hugging_face_data_set(self):
        datasets = pytest.importorskip("datasets")
        texts = [f"number {i}" if i != 3 else "" for i in range(60)]
        rows = datasets.Dataset.from_dict(
            {"image": [{"bytes": encoded(picture(i), "PNG")} for i in range(60)], "text": texts}
        )
        data = load(rows.cast_column("image", datasets.Image()))
        source = data.adapted({"image": Images(3, 8, 8), "text": Texts(4)})
        assert (len(source), source.texts([3])) == (59, ["number 4"])
        assert source.vocabulary.decode(next(Batches(source, 59, workers=0)).text).count("number 4") == 1
        train, test = data.part("train"), data.part("test")
        assert len(train) + len(test) == 60
        assert train.vocabulary == test.vocabulary

    def test_of_a_table_with_pairs(self, tmp_path):
        source = load(of_columns(tmp_path)).adapted({**PAIR, "text": Texts(4)})
        row, _ = source.read(3)
        assert torch.equal(row["target"], tensor(103))
        assert row["text"][0] == START
        assert source.groups == (("source", "target", "text"),)

    def test_emoji(self):
        data = load("emoji")
        assert data.texts([0]) == [data.captions[0]]
        tokens = data.tensors["text"]
        assert tokens.shape == (1291, data.fields["text"].length)
        assert data.vocabulary.decode(tokens[:1]) == data.texts([0])
        batch = next(Batches(data.adapted({"image": Images(3, 16, 16), "text": Texts(16)}), 4))
        assert batch.text.shape == (4, 16)
        assert set(data.adapted({"image": Images(3, 16, 16)}).fields) == {"image"}


class TestParts:
    def test_by_folders(self, tmp_path):
        folder(tmp_path / "train", 6)
        folder(tmp_path / "val", 2)
        data = load(tmp_path)
        assert len(data) == len(data.part("train")) == 6
        test = data.part("test")
        assert (len(test), test.classes, test.name) == (2, ("cats", "dogs"), f"{tmp_path}@test")
        assert load(test.name).listing() == test.listing() == load(tmp_path / "val").listing()
        with pytest.raises(ValueError, match=f"is a part already, which has no parts: take them of {tmp_path}"):
            test.part("train")
        with pytest.raises(ValueError, match="has no folder of the part test, only train"):
            load(f"{folder(tmp_path / 'x' / 'train', 2).parent}@test")

    def test_by_stems(self, tmp_path):
        data = load(folder(tmp_path, 40), 8)
        parts = {part: data.part(part) for part in ("train", "test")}
        listings = [path for part in parts.values() for path, _ in part.listing()]
        assert sorted(listings) == [path for path, _ in data.listing()]
        assert 1 <= len(parts["test"]) <= 10
        assert parts["test"].shape == (3, 8, 8), "the size is kept"
        assert load(f"{tmp_path}@test").classes == data.classes

    def test_pairs_keep_together(self, tmp_path):
        data = load(pairs(tmp_path, 20))
        train, test = (rows(data.part(part).adapted(PAIR)) for part in ("train", "test"))
        assert sorted(train + test) == [(i, 100 + i) for i in range(20)]
        both = load(tmp_path / "A", target=tmp_path / "B").part("test")
        assert rows(both.adapted(PAIR)) == test
        assert rows(load(both.name).adapted(PAIR)) == test

    def test_a_part_at_the_end_is_that_of_both(self, tmp_path):
        pairs(tmp_path, 20)
        a, b = tmp_path / "A", tmp_path / "B"
        test = load(f"{a}=>{b}@test")
        assert test.name == f"{a}@test=>{b}@test" == absolute(f"{a}=>{b}@test")
        assert 0 < len(test.a) == len(test.b) < 20
        assert rows(test.adapted(PAIR)) == rows(load(tmp_path).part("test").adapted(PAIR))
        mixed = load(f"{a}@train=>{b}@test")
        assert len(mixed.a) + len(test.a) == 20
        assert len(mixed.b) == len(test.b)
        assert len(load("photos=>emoji@test").a) == len(load("photos@test")) < len(load("photos"))
        (tmp_path / "B@test").mkdir()
        save(tmp_path / "B@test" / "x.png", 1)
        assert len(load(f"{a}=>{tmp_path}/B@test").a) == 20, "a path that is there says no part"

    @pytest.mark.parametrize(
        ("name", "part"),
        [
            ("a", "a@test"), ("a@train", "a@test"), ("a:right", "a:right@test"), ("a=>b", "a@test=>b@test"),
            ("a@train=>b@train", "a@test=>b@test"), ("hf:a/b", "hf:a/b@test"), ("hf:a/b@c", "hf:a/b@c"),
            ("hf:a/b@c=>b", "hf:a/b@c=>b@test"),
        ],
    )  # fmt: skip
    def test_names_of_parts(self, name, part):
        assert part_of(name, "test") == part

    def test_both_parts_have_the_same_words(self, tmp_path):
        folder(tmp_path, 40, ())
        for i in range(40):
            (tmp_path / f"{i:03}.txt").write_text(f"number {i}")
        data = load(tmp_path)
        train, test = data.part("train"), data.part("test")
        assert train.vocabulary == test.vocabulary == data.vocabulary
        assert len(train.vocabulary) == 4 + 1 + len(train)
        assert train.fields["text"].length == test.fields["text"].length

    def test_of_what_is_no_folder(self):
        data = load("digits@test")
        assert (data.name, 100 < len(data) < 260) == ("digits@test", True)
        assert len(load("digits@train")) + len(data) == 1797
        assert load("emoji@test").vocabulary == load("emoji").vocabulary
        with pytest.raises(ValueError, match="a part of a data set is train or test, not 'val'"):
            load("digits").part("val")


class TestIdentity:
    """By which a run tells whether its data are those that it began with."""

    def test_of_pairs_and_domains(self, tmp_path):
        one, other = pairs(tmp_path / "1"), pairs(tmp_path / "2", 5)
        sources = {
            "pairs": load(one).adapted(PAIR),
            "the other way": load(one, source="B").adapted(PAIR),
            "domains": load(one).adapted(DOMAINS),
            "others": load(other).adapted(PAIR),
            "halves": load(halves(tmp_path / "3")).adapted(PAIR),
            "other halves": load(tmp_path / "3", source="right").adapted(PAIR),
            "as it is": load(one / "A", target=one / "B"),
        }
        assert len({identity(source)["digest"] for source in sources.values()}) == len(sources)
        again = load(one).adapted({**PAIR, "target": Images(1, 8, 8)})
        assert identity(again) == identity(sources["pairs"]), "the size is not theirs"
        assert identity(again)["rules"] == RULES

    def test_holds_the_vocabulary(self, tmp_path):
        words = list(load(of_columns(tmp_path / "1")).adapted({**PAIR, "text": Texts(9)}).fields["text"].words)
        assert identity(load(tmp_path / "1").adapted({**PAIR, "text": Texts(9)}))["vocabulary"] == words
        folder(tmp_path / "2", 2, ())
        assert "vocabulary" not in identity(load(tmp_path / "2"))
        (tmp_path / "2" / "000.txt").write_text("a cat")
        data = load(tmp_path / "2")
        assert identity(data)["vocabulary"] == [*words[:4], "a", "cat"]
        assert "vocabulary" not in identity(data.adapted({"image": Images(3, 8, 8)}))
        assert identity(load("emoji"))["vocabulary"] == list(load("emoji").vocabulary)

    def test_names_are_found_again_from_everywhere(self, tmp_path, monkeypatch):
        pairs(tmp_path)
        monkeypatch.chdir(tmp_path)
        a, b = tmp_path / "A", tmp_path / "B"
        assert absolute("A=>B") == f"{a}=>{b}"
        assert absolute("A:right@test") == f"{a}:right@test"
        assert absolute("emoji@test=>nowhere@test") == "emoji@test=>nowhere@test"
        (tmp_path / "A@test").mkdir()
        assert absolute("A@test") == f"{a}@test"
        save(tmp_path / "A@test" / "x.png", 1)
        assert len(load("A@test")) == 1, "a path that is there is taken as it is"


@pytest.mark.parametrize("make", [pairs, halves, of_columns])
@pytest.mark.parametrize("wanted", [PAIR, DOMAINS], ids=["pairs", "domains"])
class TestBatches:
    def source(self, tmp_path, make, wanted):
        if make is of_columns and wanted is DOMAINS:
            pytest.skip("its columns are source and target")
        make(tmp_path, 9)
        return load(tmp_path).adapted(wanted)

    def test_the_same_whatever_reads_them(self, tmp_path, make, wanted):
        source = self.source(tmp_path, make, wanted)
        streams = [Batches(source, 4, seed=3, flip=True, workers=workers, memory=memory)
                   for workers, memory in ((0, None), (0, 0), (1, 0), (2, 0))]  # fmt: skip
        ranks = [Batches(source, 4, seed=3, flip=True, workers=0, rank=rank, ranks=2) for rank in (0, 1)]
        for _ in range(5):
            first, *others = [next(batches) for batches in streams]
            parts = [next(batches) for batches in ranks]
            for name in wanted:
                assert all(first[name].equal(other[name]) for other in others)
                assert torch.cat([part[name] for part in parts]).equal(first[name])

    def test_go_on_in_the_middle_of_an_epoch(self, tmp_path, make, wanted):
        source = self.source(tmp_path, make, wanted)
        batches = Batches(source, 4, seed=3, flip=True, workers=0)
        for _ in range(3):
            next(batches)
        state = batches.state_dict()
        resumed = Batches(source, 4, seed=3, flip=True, workers=0)
        resumed.load_state_dict(state)
        for _ in range(4):
            one, other = next(batches), next(resumed)
            assert all(one[name].equal(other[name]) for name in wanted)
