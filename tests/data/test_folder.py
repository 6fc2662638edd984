"""A folder of pictures: what is found, in which order, with which labels and captions, and what is left out."""

import os
import time
import unicodedata

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.data import Batches, load, to_uint8
from tests.data.picture_files import encoded, folder, picture, pixels


def tensor(array):
    return torch.from_numpy(array).permute(2, 0, 1)


def paths(data):
    return [data.picture_name(i).replace(os.sep, "/") for i in range(len(data))]


def test_pictures_are_in_the_order_of_their_paths(tmp_path):
    data = load(str(folder(tmp_path)))
    assert paths(data) == [f"cats/{i:03}.png" for i in range(0, 20, 2)] + [f"dogs/{i:03}.png" for i in range(1, 20, 2)]
    assert data.classes == ("cats", "dogs")
    assert data.name == str(tmp_path)
    assert data.shape == (3, 24, 24)
    for i, index in ((0, 0), (9, 18), (10, 1), (-1, 19)):
        image, label = data[i]
        assert torch.equal(image, tensor(pixels(index)))
        assert label == index % 2
    with pytest.raises(IndexError, match="has 20 pictures"):
        data[20]


def test_folders_below_a_class_belong_to_it(tmp_path):
    folder(tmp_path / "b", 2, ("deep/er", "z"))
    folder(tmp_path / "a", 1, ())
    data = load(tmp_path)
    assert paths(data) == ["a/000.png", "b/deep/er/000.png", "b/z/001.png"]
    assert data.classes == ("a", "b")
    assert [data[i][1] for i in range(3)] == [0, 1, 1]


def test_pictures_beside_the_folders_mean_no_classes(tmp_path):
    folder(tmp_path, 4)
    folder(tmp_path, 2, ())
    data = load(tmp_path)
    assert (data.classes, data[0][1], len(data)) == ((), None, 6)
    assert Batches(data, 2).problems() == [
        f"{tmp_path}: 2 pictures lie beside the folders, so the folders are not taken as classes"
    ]


def test_conversions_give_new_sources(tmp_path):
    data = load(folder(tmp_path, kind="jpg", height=30))
    changed = data.with_channels(1).resize(8)
    assert (data.shape, changed.shape) == ((3, 24, 24), (1, 8, 8))
    assert changed[3][0].shape == (1, 8, 8)
    assert torch.equal(load(tmp_path, 8, 1)[3][0], changed[3][0])
    assert (changed.classes, changed.name, len(changed)) == (data.classes, data.name, 20)
    for call, message in ((lambda: data.resize(0), "resolution must be"), (lambda: data.with_channels(2), "channels")):
        with pytest.raises(ValueError, match=message):
            call()


def test_shape_follows_from_all_readable_pictures(tmp_path):
    picture(0, 40, 50, 1).save(tmp_path / "1.png")
    (tmp_path / "0.png").write_bytes(b"no picture")
    Image.new("L", (1, 1)).save(tmp_path / "2.gif")
    assert load(tmp_path).shape == (1, 40, 40)
    picture(0, 60, 32).save(tmp_path / "3.png")
    assert load(tmp_path).shape == (3, 32, 32)


class TestSurvey:
    """What is done to the pictures is told from the headers of all of them."""

    def said(self, root, *shape):
        data = load(root, *shape)
        data.survey  # noqa: B018
        return [line.removeprefix(f"{root}: ") for line in Batches(data, 1).problems()]

    def test_nothing_to_say(self, tmp_path):
        assert self.said(folder(tmp_path), 24, 3) == []

    def test_the_last_picture_counts(self, tmp_path):
        for i in range(60):
            picture(i, 24, 24, 1).save(tmp_path / f"{i:02}.png")
        picture(0).save(tmp_path / "z.png")
        assert load(tmp_path).shape == (3, 24, 24)
        assert self.said(tmp_path) == ["60 of 61 pictures are gray: training in color, --channels 1 for gray"]
        assert self.said(tmp_path, 24, 1) == [
            "1 of 61 pictures are in color, and are made gray; --channels 3 for color"
        ]

    def test_few_small_ones_do_not_decide(self, tmp_path):
        for i in range(40):
            picture(i, 100, 100).save(tmp_path / f"{i:02}.png")
        picture(0, 16, 16).save(tmp_path / "0.png")
        picture(0, 1, 1).save(tmp_path / "1.png")
        assert load(tmp_path).shape == (3, 100, 100)
        assert self.said(tmp_path, 64) == [
            "pictures of 16 to 100 pixels on the shorter side, half of them 100 or more, are made 64x64; --resolution "
            "N for another size",
            "1 of 42 pictures are smaller than 64x64 and are enlarged, from 16 pixels",
        ]

    def test_pictures_that_are_not_square(self, tmp_path):
        folder(tmp_path, 3, (), height=24, width=24)
        picture(0, 24, 48).save(tmp_path / "wide.png")
        picture(0, 36, 24).save(tmp_path / "high.png")
        assert self.said(tmp_path) == [
            "2 of 5 pictures are not square (half of these 1.75 to 1 or more): their outer parts are left out"
        ]

    def test_a_part_of_very_many(self, tmp_path, monkeypatch):
        for i in range(20):
            picture(i, 24, 24, 1 if i % 2 else 3).save(tmp_path / f"{i:02}.png")
        monkeypatch.setattr("fastgan.data.folder.Folder.most_surveyed", 10)
        assert self.said(tmp_path, 24, 1) == [
            "10 of 10 pictures are in color, and are made gray; --channels 3 for color (10 were looked at, of 20)"
        ]

    def test_a_training_tells_it_once(self, tmp_path, caplog):
        from fastgan.systems import create
        from fastgan.training import Trainer

        settings = {"device": "cpu", "batch_size": 4, "samples": 4, "evaluate_every": 0, "workers": 0}
        root = str(folder(tmp_path / "photos", 8))
        Trainer(create("dcgan", resolution=16, width=4), root, out=tmp_path / "run", **settings).fit(1)
        assert "pictures of 24 pixels on the shorter side, are made 16x16" in caplog.text
        assert "made 16x16" in (tmp_path / "run" / "log.txt").read_text()
        caplog.clear()
        Trainer.resume(tmp_path / "run").fit(2)
        assert "made 16x16" not in caplog.text


def test_what_is_no_picture_is_left_out_and_named(tmp_path):
    folder(tmp_path, 4)
    cats = tmp_path / "cats"
    (cats / "folder.jpg").mkdir()
    (cats / "broken.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(cats / "pipe.jpg")
    (cats / "device.jpg").symlink_to("/dev/zero")
    (cats / ".hidden.jpg").write_bytes(encoded(picture(), "PNG"))
    (cats / "notes.txt").write_text("no picture")
    folder(tmp_path / ".thumbnails", 2, ())
    (cats / "a link.png").symlink_to("000.png")
    (cats / "round").symlink_to(tmp_path)
    start = time.monotonic()
    data = load(tmp_path)
    assert paths(data) == ["cats/000.png", "cats/002.png", "cats/a link.png", "dogs/001.png", "dogs/003.png"]
    assert Batches(data, 2).problems() == [
        "1 of 6 files are of kinds that are not read and are left out: 1 .txt. Convert pictures among them to JPEG or "
        "PNG, films to pictures",
        *(f"cats/{name}.jpg: not a regular file, left out" for name in ("broken", "device", "folder", "pipe")),
    ]
    assert time.monotonic() - start < 5


def test_a_file_that_becomes_a_pipe_does_not_block(tmp_path):
    data = load(folder(tmp_path, 2, ()))
    (tmp_path / "000.png").unlink()
    os.mkfifo(tmp_path / "000.png")
    row, notes = data.read(0)
    assert torch.equal(row["image"], tensor(pixels(1)))
    assert notes == [("000.png", "not a regular file", True)]


def test_a_file_may_be_any_picture_inside(tmp_path):
    (tmp_path / "png.jpg").write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "shout.JPG").write_bytes(encoded(picture(1), "BMP"))
    data = load(tmp_path)
    assert torch.equal(data[0][0], tensor(pixels()))
    assert torch.equal(data[1][0], tensor(pixels(1)))


def test_any_file_name(tmp_path):
    names = ["naïve 画像\n.png", os.fsdecode(b"latin-\xe9.png")]
    for name in names:
        (tmp_path / name).write_bytes(b"no picture")
    folder(tmp_path, 2, ())
    batches = Batches(load(tmp_path), 4)
    next(batches)
    lines = batches.problems()
    assert sorted(lines) == [
        "latin-\\udce9.png: not a picture, left out",
        "naïve 画像\\x0a.png: not a picture, left out",
    ]
    "".join(lines).encode()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_unusable_are_replaced_alike_in_every_epoch(tmp_path, workers):
    folder(tmp_path)
    bad = {"cats/004.png": b"", "cats/006.png": b"text", "dogs/019.png": encoded(picture(), "PNG")[:300]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    # The next usable; after the last comes the first.
    instead = {4: 8, 6: 8, 19: 0}
    data = load(tmp_path)
    order = list(range(0, 20, 2)) + list(range(1, 20, 2))
    for memory in (0, None):
        batches = Batches(data, 20, workers=workers, memory=memory, seed=3)
        for _ in range(3):
            images, labels = (batch := next(batches)).image, batch.get("label")
            expected = {}
            for i in order:
                expected.setdefault(instead.get(i, i), []).append(i)
            for image, label in zip(to_uint8(images), labels.tolist()):
                [index] = [i for i in expected if torch.equal(image, tensor(pixels(i)))]
                assert label == index % 2
                expected[index].pop()
            assert not any(expected.values())
        assert sorted(batches.problems()) == [
            "cats/004.png: not a picture, left out",
            "cats/006.png: not a picture, left out",
            "dogs/019.png: truncated, left out",
        ]
        assert batches.problems() == []
        assert batches.counts() == {"left out": 3}


def test_what_is_converted_is_counted_by_kind(tmp_path):
    for i in range(25):
        picture(i).convert("CMYK").save(tmp_path / f"{i:02}.jpg")
    batches = Batches(load(tmp_path), 1, workers=0)
    next(batches)
    [line] = batches.problems()
    assert line.startswith("converted (CMYK): 1 by now, such as ")
    for _ in range(8):
        next(batches)
    assert batches.problems() == []
    for _ in range(16):
        next(batches)
    [line] = batches.problems()
    assert line.startswith("converted (CMYK): 25 by now, such as ")
    assert line.count(".jpg") == 3
    assert batches.counts() == {"CMYK": 25}


def test_many_that_are_left_out_are_counted(tmp_path):
    folder(tmp_path, 1, ())
    for i in range(70):
        (tmp_path / f"x{i}.png").write_bytes(b"no picture")
    batches = Batches(load(tmp_path, 8, 3), 71, workers=0)
    next(batches)
    lines = batches.problems()
    assert len(lines) == 51
    assert lines[-1] == "20 more pictures left out, 70 by now"


def test_a_folder_without_a_usable_picture(tmp_path):
    with pytest.raises(ValueError, match=r"there is no picture in .*: files of the kinds \.apng"):
        load(tmp_path)
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    message = r"none of 4 pictures in a row can be used, such as 0.png: not a picture; 1.png: not a picture"
    with pytest.raises(RuntimeError, match=message):
        load(tmp_path).shape  # noqa: B018
    for workers in (0, 1):
        batches = Batches(load(tmp_path, 8, 3), 2, workers=workers)
        with pytest.raises(RuntimeError, match="none of 4 pictures in a row"):
            next(batches)


def test_too_many_open_files_is_not_the_pictures_fault(tmp_path, monkeypatch):
    data = load(folder(tmp_path, 2, ()), 8, 3)

    def refuses(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(OSError, match="Too many open files"):
        data[0]


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    data = load(folder(tmp_path, 2, ()), 8, 3)
    true_open = os.open

    def refuses(path, *rest, **options):
        if str(path).endswith("000.png"):
            raise PermissionError(13, "Permission denied")
        return true_open(path, *rest, **options)

    monkeypatch.setattr(os, "open", refuses)
    assert data.read(0)[1] == [("000.png", "permission denied", True)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_a_folder_of_hostile_files_gives_an_epoch(tmp_path, kind):
    rng = np.random.default_rng(1)
    whole = encoded(picture(8, 40, 40), kind)
    for i in range(40):
        content = bytearray(whole[: rng.integers(len(whole))] if i % 4 == 0 else whole)
        for position in rng.integers(0, max(1, len(content)), rng.integers(1, 20)):
            content[position : position + 1] = bytes([rng.integers(256)])
        (tmp_path / f"{i:02}.jpg").write_bytes(content if i else whole)
    batches = Batches(load(tmp_path, 16, 3), 40, workers=0)
    assert next(batches).image.shape == (40, 3, 16, 16)
    left_out = [line for line in batches.problems() if line.endswith("left out")]
    assert len(left_out) == batches.counts()["left out"] >= 5


class TestParts:
    """Folders train, val, test are parts of a data set."""

    def test_the_part_for_training_is_taken(self, tmp_path):
        for part, count in (("train", 6), ("val", 2), ("test", 4)):
            folder(tmp_path / part, count)
        data = load(tmp_path)
        assert (len(data), data.classes, paths(data)[0]) == (6, ("cats", "dogs"), "cats/000.png")
        assert data.left_out == {"other parts": 6}
        assert data.remarks == [
            f"{tmp_path}: train, test, val are parts of a data set, not classes: taken are the 6 pictures of train, "
            f"left out 6 others; for these, give their folder, such as {tmp_path}/test"
        ]
        assert len(load(tmp_path / "val")) == 2
        assert torch.equal(load(tmp_path)[0][0], load(tmp_path / "train")[0][0])

    @pytest.mark.parametrize("names", [("Training", "Testing"), ("train2017", "val2017"), ("train",)])
    def test_by_other_names(self, tmp_path, names):
        for name in names:
            folder(tmp_path / name, 2)
        assert load(tmp_path).classes == ("cats", "dogs")

    @pytest.mark.parametrize("names", [("train", "test", "extra"), ("val", "test"), ("train", "training")])
    def test_what_is_not_clear_stays_classes_and_is_said(self, tmp_path, names):
        for name in names:
            folder(tmp_path / name, 2, ())
        data = load(tmp_path)
        assert data.classes == tuple(sorted(names))
        assert ["are taken as classes" in line for line in data.remarks] == [True] * (len(names) > 1)

    def test_a_class_of_that_name(self, tmp_path):
        for name in ("car", "train", "plane"):
            folder(tmp_path / name, 2, ())
        assert (load(tmp_path).classes, load(tmp_path).remarks) == (("car", "plane", "train"), [])

    def test_a_table_decides_itself(self, tmp_path):
        for part in ("train", "test"):
            folder(tmp_path / part, 2, ())
        (tmp_path / "captions.csv").write_text("file,caption\ntrain/000.png,a\ntest/000.png,b\n")
        assert len(load(tmp_path)) == 2


def test_classes_are_in_natural_order(tmp_path):
    for number in range(12):
        folder(tmp_path / str(number), 1, ())
    folder(tmp_path / "a10b2", 1, ())
    folder(tmp_path / "a9b11", 1, ())
    data = load(tmp_path)
    assert data.classes == (*map(str, range(12)), "a9b11", "a10b2")
    assert paths(data)[2] == "10/000.png", "the order of pictures decides the batches of runs that exist"
    assert data[2][1] == 10


def test_files_that_are_not_read_are_counted_by_kind(tmp_path):
    folder(tmp_path, 2, ())
    for name in ("a.HEIC", "b.heic", "c.mp4", "noname", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    data = load(tmp_path)
    assert data.remarks == [
        "4 of 6 files are of kinds that are not read and are left out: 2 .heic, 1 .mp4, 1 without extension. Convert "
        "pictures among them to JPEG or PNG, films to pictures"
    ]
    assert data.left_out == {".heic": 2, ".mp4": 1, "without extension": 1}
    for name in ("000.png", "001.png"):
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"no picture in .*, only 2 \.heic, .*: convert pictures among them: files of"):
        load(tmp_path)


class TestCaptions:
    @pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
    def test_names_in_the_other_unicode_form(self, tmp_path, forms):
        name = "caf\u00e9.png"
        picture(0).save(tmp_path / unicodedata.normalize(forms[0], name))
        picture(1).save(tmp_path / "1.png")
        text = f"file,caption\n{unicodedata.normalize(forms[1], name)},coffee\n1.png,x\n"
        (tmp_path / "captions.csv").write_text(text, "utf-8")
        data = load(tmp_path)
        assert data.captions == ("coffee", "x")
        [line] = data.remarks
        assert "captions.csv: 1 names are those of pictures in the other Unicode form only" in line

    def test_blanks_after_commas(self, tmp_path):
        data = load(self.write(tmp_path, 'file, caption, label\n000.png, "a cat, asleep", "cat"\n'))
        assert (data.captions, data.classes) == (("a cat, asleep",), ("cat",))

    def write(self, root, text, encoding="utf-8"):
        folder(root, 4, ())
        (root / "captions.csv").write_bytes(text.encode(encoding))
        return root

    def test_captions_follow_the_file(self, tmp_path):
        text = 'file,caption\n002.png,"a cat, asleep"\n./000.png, two dogs \n002.png,again\n'
        data = load(self.write(tmp_path, text), 8, 3)
        assert paths(data) == ["002.png", "000.png", "002.png"]
        assert data.captions == ("a cat, asleep", "two dogs", "again")
        assert (data.classes, data[0][1]) == ((), None)
        assert Batches(data, 2).problems() == [
            f"{tmp_path}/captions.csv does not list 2 of 4 pictures, which are left out"
        ]

    def test_labels(self, tmp_path):
        data = load(self.write(tmp_path, "label,Image,text\nowl,000.png,x\nbee,001.png,y\nowl,002.png,z\n"))
        assert data.classes == ("bee", "owl")
        assert [data[i][1] for i in range(3)] == [1, 0, 1]

    def test_class_folders_give_labels_where_the_table_has_none(self, tmp_path):
        folder(tmp_path, 4)
        (tmp_path / "captions.csv").write_text("file,caption\ndogs/003.png,a\ncats/000.png,b\n")
        data = load(tmp_path)
        assert (data.classes, [data[i][1] for i in range(2)]) == (("cats", "dogs"), [1, 0])

    def test_missing_pictures_are_named(self, tmp_path):
        root = self.write(tmp_path, "file,caption\n000.png,a\n../secret.png,b\n9.png,c\n")
        remarks = Batches(load(root), 1).problems()
        assert remarks[:2] == [
            f"{root}/captions.csv line 3: no picture ../secret.png, left out",
            f"{root}/captions.csv line 4: no picture 9.png, left out",
        ]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
    def test_encodings(self, tmp_path, encoding):
        root = self.write(tmp_path, "file,caption\r\n000.png,crème brûlée\r\n", encoding)
        assert load(root).captions == ("crème brûlée",)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "must begin with a line that names the columns file and caption .*, not nothing"),
            ("000.png,a cat\n", "must begin with a line .*, not 000.png, a cat"),
            ("file,caption\nx.png,a\n", "names no picture that is there"),
            ("file,caption,label\n000.png,a,\n", "line 2: the label is empty"),
            ("file,caption\n000.png," + "x" * 200000, "is not CSV"),
        ],
    )
    def test_says_what_is_wrong(self, tmp_path, text, message):
        with pytest.raises(ValueError, match=message):
            load(self.write(tmp_path, text))


def test_suggests_a_path_nearby(tmp_path):
    folder(tmp_path / "flowers", 1, ())
    with pytest.raises(
        ValueError,
        match=rf"did you mean '{tmp_path}/flowers'\? accepted are digits, emoji, ring, grid, fluent, photos, ",
    ):
        load(f"{tmp_path}/flowres")
    with pytest.raises(ValueError, match="is a file: give the folder of pictures"):
        load(tmp_path / "flowers" / "000.png")
    (tmp_path / "flower.py").touch()
    with pytest.raises(ValueError, match=rf"did you mean '{tmp_path}/flowers'\? "):
        load(f"{tmp_path}/flower.p")


def test_a_path_is_never_taken_for_a_name(tmp_path, monkeypatch):
    folder(tmp_path / "emoji", 2, ())
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    assert len(load("emoji")) == 1291
    assert len(load("./emoji")) == len(load(Path("emoji"))) == 2


def test_grey_is_pillows(tmp_path):
    picture(3).save(tmp_path / "a.png")
    assert np.array_equal(load(tmp_path, channels=1)[0][0][0].numpy(), np.array(picture(3).convert("L")))
