"""Sources: named fields; those of a group are drawn together, several groups apart; the same whatever the workers."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.data import Apart, Batches, ImageData, Images, Labels, Source, Together, Vectors, load, source_of, to_uint8
from fastgan.data.source import Tensors
from tests.data.picture_files import folder, pixels

COUNT, OTHERS = 11, 7


def images(count, shift=0, channels=1):
    """(count, C, 2, 3) uint8, each image of its index plus `shift`, brighter to the right."""
    values = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1) + shift
    return (values + torch.tensor([0, 50, 100], dtype=torch.uint8)).expand(count, channels, 2, 3).clone()


def pairs():
    return Together("pairs", {"source": (images(COUNT), "image"), "target": (images(COUNT, 100), "image")})


def domain(name, count, shift=0):
    return Together(name, {name: (images(count, shift), "image")})


def domains():
    return Apart("domains", [domain("a", COUNT), domain("b", OTHERS, 100)])


class Items(torch.utils.data.Dataset):
    """Mappings of fields, as a user's data set may return them; an augmentation that draws."""

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        noise = torch.randint(50, (1, 2, 3), dtype=torch.uint8)
        return {"source": images(COUNT)[i], "target": noise, "point": torch.tensor([float(i), 0.5]), "label": i % 3}


def take(batches, count):
    return [dict(batch) for batch in itertools.islice(batches, count)]


def same(some, others):
    return len(some) == len(others) and all(
        list(x) == list(y) and all(torch.equal(x[name], y[name]) for name in x) for x, y in zip(some, others)
    )


def first(values):
    return to_uint8(values).amin((1, 2, 3)).tolist()  # whether mirrored or not


SOURCES = {"pairs": pairs, "domains": domains, "items": Items}


def test_whatever_batches_take_is_a_source(tmp_path):
    points = Tensors("points", {"vector": torch.rand(5, 2), "label": torch.arange(5)})
    for data in ("digits", load("ring"), images(4), list(images(4)), folder(tmp_path, 4), pairs(), domains(), points):
        source = source_of(data)
        assert isinstance(source, Source)
        assert source_of(source) is source
        assert [name for group in source.groups for name in group] == list(source.fields)
        assert list(next(Batches(data, 4))) == list(source.fields)
    assert points.fields == {"vector": Vectors(2), "label": Labels()}
    assert source_of(Items()).fields == {
        "source": Images(1, 2, 3), "target": Images(1, 2, 3), "point": Vectors(2), "label": Labels()
    }  # fmt: skip


@pytest.mark.parametrize("name", ["pairs", "items"])
def test_fields_of_a_group_are_drawn_and_mirrored_together(name):
    batches = Batches(SOURCES[name](), 4, flip=True, workers=0)
    mirrored = 0
    for batch in itertools.islice(batches, 20):
        if name == "pairs":
            assert first(batch.target) == [100 + i for i in first(batch.source)]
            assert torch.allclose(batch.target - batch.source, torch.tensor(100 / 127.5), atol=1e-6)
        else:
            assert first(batch.source) == batch.point[:, 0].tolist()
            assert [i % 3 for i in first(batch.source)] == batch.label.tolist()
        mirrored += int((batch.source[:, 0, 0, 0] > batch.source[:, 0, 0, 2]).sum())
    assert 20 < mirrored < 60


def test_groups_are_drawn_apart_each_in_epochs_of_its_own():
    batches = Batches(domains(), 3, seed=1)
    assert batches.count == COUNT
    taken = take(batches, 6)
    assert batches.state_dict() == {"epoch": 1, "position": 9, "others": [{"epoch": 2, "position": 6}]}
    for name, per_epoch, shift in (("a", 3, 0), ("b", 2, 100)):
        for epoch in range(6 // per_epoch):
            seen = [i for batch in taken[epoch * per_epoch :][:per_epoch] for i in first(batch[name])]
            assert len(set(seen)) == len(seen)
            assert all(shift <= i < shift + COUNT for i in seen)
    alone = take(Batches(domain("a", COUNT), 3, seed=1), 6)
    assert same([{"a": batch["a"]} for batch in taken], alone)
    as_first = take(Batches(domain("b", OTHERS, 100), 3, seed=1), 6)
    assert not same([{"b": batch["b"]} for batch in taken], as_first)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("consumed", [0, 1, 5])
def test_resumes_with_the_same_batches(name, consumed):
    straight = Batches(SOURCES[name](), 3, flip=True, workers=0)
    take(straight, consumed)
    resumed = Batches(SOURCES[name](), 3, flip=True, workers=1)
    resumed.load_state_dict(straight.state_dict())
    assert resumed.state_dict() == straight.state_dict()
    assert same(take(resumed, 7), take(straight, 7))


@pytest.mark.parametrize("name", SOURCES)
def test_ranks_share_the_batch_that_one_process_would_yield(name):
    whole = take(Batches(SOURCES[name](), 4, flip=True, workers=0), 7)
    parts = [take(Batches(SOURCES[name](), 4, flip=True, workers=0, rank=rank, ranks=2), 7) for rank in range(2)]
    together = [{key: torch.cat([x[key], y[key]]) for key in x} for x, y in zip(*parts)]
    assert same(together, whole)


@pytest.mark.parametrize("memory", [0, None])
@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_of_files_stay_pairs_where_one_cannot_be_read(tmp_path, memory, workers):
    for part in ("A", "B"):
        folder(tmp_path / part, 9, classes=())
    broken = tmp_path / "B" / "004.png"
    broken.write_bytes(broken.read_bytes()[:60])
    a, b = load(tmp_path / "A", 24), load(tmp_path / "B", 24)
    source = Together("pairs", {"source": (a, "image"), "target": (b, "image")})
    batches = Batches(source, 3, workers=workers, memory=memory, flip=True)
    for batch in itertools.islice(batches, 9):
        assert torch.equal(batch.source, batch.target)
    assert batches.problems() == ["004.png: truncated, left out"]


def test_adapted_has_the_wanted_fields_alone(tmp_path):
    pictures = load(folder(tmp_path, 4))
    for data in (pictures, load("emoji")):
        grey = source_of(data).adapted({"image": Images(1, 16, 16)})
        assert grey.fields == {"image": Images(1, 16, 16)}
        batch = next(Batches(grey, 4))
        assert list(batch) == ["image"]
        assert batch.image.shape == (4, 1, 16, 16)
    for make in (pairs, Items):
        assert list(next(Batches(source_of(make()).adapted({"target": Images(1, 2, 3)}), 4, workers=0))) == ["target"]
    one = source_of(domains()).adapted({"b": Images(1, 2, 3)})
    assert one.groups == (("b",),)
    assert Batches(one, 4).state_dict() == {"epoch": 0, "position": 0}


BAD = {
    "a field that is not there": (
        lambda: source_of(pairs()).adapted({"image": Images(1, 2, 3)}),
        r"pairs has no 'image'; it has source \(images of 3x2 pixels and 1 channel\), target \(",
    ),
    "a field of another kind": (
        lambda: load("digits").adapted({"label": Vectors(2)}),
        "'label' of digits must be vectors of 2 numbers, not labels of 10 classes",
    ),
    "another size in memory": (
        lambda: source_of(images(4)).adapted({"image": Images(1, 4, 4)}),
        "'image' of tensor must be images of 4x4 pixels and 1 channel, not images of 3x2 .* change it in your data set",
    ),
    "nothing wanted": (lambda: pairs().adapted({}), "at least one field must be wanted; pairs has source"),
    "unequal lengths": (
        lambda: Together("p", {"source": (images(4), "image"), "target": (images(5), "image")}),
        "p: fields that are drawn together need as many rows each, not 4 of 'source', 5 of 'target'",
    ),
    "a field twice": (lambda: Apart("p", [images(4), images(5)]).fields, "p: two parts have image: give each a name"),
    "a field that a part lacks": (lambda: Together("p", {"a": (images(4), "label")}), "tensor has no 'label'"),
    "no rows in a group": (
        lambda: Batches(Apart("p", [domain("a", 4), domain("b", 0)]), 2),
        "batch_size 2 is larger than a part of the data set, b, which has 0 images",
    ),
    "short batches of several groups": (
        lambda: Batches(domains(), 2, drop_last=False),
        "drop_last must be True with several groups",
    ),
    "no items": (lambda: source_of([]).fields, "list has no items"),
    "the state of another data set": (
        lambda: Batches(domains(), 2).load_state_dict({"epoch": 0, "position": 2}),
        "the state must hold epoch and others and position, not epoch, position",
    ),
    "groups too few": (
        lambda: Batches(domains(), 2).load_state_dict({"epoch": 0, "position": 2, "others": []}),
        "places of 1 further groups of fields, not 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_says_what_is_wrong(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


class TestJitter:
    """Images are made larger by some pixels, and a part of their own size is taken at random."""

    def pictures(self, tmp_path, count=9):
        return load(folder(tmp_path, count, classes=()), (16, 12))

    def pairs(self, tmp_path):
        source = self.pictures(tmp_path)
        return Together("pairs", {"source": (source, "image"), "target": (source, "image")})

    @pytest.mark.parametrize("memory", [0, None])
    def test_each_image_is_a_part_of_the_larger_one_and_pairs_stay_pairs(self, tmp_path, memory):
        batches = Batches(self.pairs(tmp_path), 3, jitter=6, flip=True, workers=0, memory=memory)
        larger = load(tmp_path, (22, 18))
        whole = torch.stack([larger[i][0] for i in range(9)])
        parts = whole.unfold(2, 16, 1).unfold(3, 12, 1)  # (9, C, 7, 7, 16, 12)
        seen = set()
        for batch in itertools.islice(batches, 30):
            assert torch.equal(batch.source, batch.target)
            assert batch.source.shape == (3, 3, 16, 12)
            for image in to_uint8(batch.source):
                places = [
                    (*place, mirrored)
                    for mirrored, given in enumerate((image, image.flip(2)))
                    for place in (parts == given[None, :, None, None]).all(5).all(4).all(1).nonzero()[:, 1:].tolist()
                ]
                assert len(places) == 1
                seen.add(tuple(places[0]))
        assert {place[0] for place in seen} == {place[1] for place in seen} == set(range(7))

    def test_the_same_whatever_the_workers_the_ranks_and_the_beginning(self, tmp_path):
        options = {"jitter": 4, "flip": True, "seed": 3}
        source = self.pictures(tmp_path)
        whole = take(Batches(source, 4, workers=0, memory=0, **options), 8)
        assert same(take(Batches(source, 4, workers=2, **options), 8), whole)
        parts = [take(Batches(source, 4, workers=0, rank=rank, ranks=2, **options), 8) for rank in range(2)]
        assert same([{"image": torch.cat([x["image"], y["image"]])} for x, y in zip(*parts)], whole)
        resumed = Batches(source, 4, workers=0, **options)
        resumed.load_state_dict({"epoch": 1, "position": 4})
        assert same(take(resumed, 5), whole[3:])

    def test_order_and_layout_are_those_without_it(self):
        plain, shifted = (next(Batches("digits", 64, flip=True, jitter=jitter)) for jitter in (0, 2))
        assert torch.equal(plain.label, shifted.label)
        assert shifted.image.shape == plain.image.shape
        assert shifted.image.stride() == plain.image.stride()

    def test_says_what_is_wrong(self):
        with pytest.raises(ValueError, match="jitter must be an integer >= 0"):
            Batches("digits", 4, jitter=-1)
        with pytest.raises(ValueError, match="jitter 2 takes images that are larger by so many pixels: 'image' of "):
            Batches(images(4), 4, jitter=2)
        other = Together("p", {"a": (images(4), "image"), "b": (images(4)[:, :, :1], "image")})
        with pytest.raises(ValueError, match="one size where they are drawn together, not 3x2 of 'a', 3x1 of 'b' of p"):
            Batches(other, 4, jitter=2)


class TestHeightAndWidth:
    """Images of any height and width: the middle part of that aspect ratio, or all of a picture, stretched."""

    @pytest.mark.parametrize("fit", ["crop", "stretch"])
    @pytest.mark.parametrize("size", [(24, 24), (24, 12), (12, 24), (10, 16), (7, 5)])
    def test_as_pillow_does_it(self, tmp_path, size, fit):
        height, width = size
        folder(tmp_path, 2, classes=(), height=24, width=36)
        wanted = {"image": Images(3, height, width, fit)}
        files = load(tmp_path).adapted(wanted)
        assert files.shape == (3, height, width)
        assert files.fields == wanted
        assert files.fields["image"].fit == fit
        original = Image.open(tmp_path / "000.png")
        if fit == "crop":
            part = min(36, round(24 * width / height)), min(24, round(36 * height / width))
            left, top = (36 - part[0]) // 2, (24 - part[1]) // 2
            original = original.crop((left, top, left + part[0], top + part[1]))
        expected = np.array(original.resize((width, height), Image.Resampling.BICUBIC))
        expected = torch.from_numpy(expected).permute(2, 0, 1)
        assert torch.equal(files[0][0], expected)
        memory = ImageData(load(tmp_path, (24, 36))[0][0][None]).adapted(wanted)
        assert memory.shape == (3, height, width)
        # Pillow rounds after each of its two passes.
        assert (memory.images[0].int() - expected).abs().max() <= 4

    def test_an_int_is_a_square(self, tmp_path):
        source = load(folder(tmp_path, 2, height=24, width=36), 16)
        assert source.shape == (3, 16, 16)
        assert torch.equal(source[0][0], source.resize((16, 16))[0][0])
        assert torch.equal(load("emoji", 32).images, load("emoji", (32, 32)).images)

    def test_a_turned_picture_is_cropped_as_it_is_seen(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels(0, 24, 48)).save(tmp_path / "0.png", exif=exif)
        turned = Image.fromarray(pixels(0, 24, 48)).transpose(Image.Transpose.ROTATE_270)
        assert torch.equal(load(tmp_path, (48, 24))[0][0], torch.from_numpy(np.array(turned)).permute(2, 0, 1))

    def test_too_small_is_what_is_used(self, tmp_path):
        folder(tmp_path, 2, classes=(), height=8, width=100)
        assert load(tmp_path, (16, 200))[0][0].shape == (3, 16, 200)
        with pytest.raises(RuntimeError, match="100x8 pixels, too small for 80x80"):
            load(tmp_path, 80)[0]

    def test_what_becomes_of_pictures_is_told(self, tmp_path):
        folder(tmp_path, 3, classes=(), height=24, width=48)
        oblong = "are not square (half of these 2.00 to 1 or more): "
        for size, fit, said in (
            (24, "crop", [oblong + "their outer parts are left out"]),
            ((24, 48), "crop", []),
            ((48, 48), "stretch", ["are smaller than 48x48", oblong + "they are stretched"]),
            ((12, 48), "crop", ["are not of the shape of 48x12 (half of these 2.00 to 1 or more): their outer"]),
        ):
            source = load(tmp_path).resize(size, fit)
            source.survey  # noqa: B018
            lines = "; ".join(source.said())
            assert all(part in lines for part in said), lines
            assert (" are not " in lines) == bool(said)

    @pytest.mark.parametrize("size", [0, (1, 0), (1, 2, 3), 2.0, "8", True, (4, None)])
    def test_refuses_other_sizes(self, tmp_path, size):
        for data in ("digits", folder(tmp_path, 1)):
            with pytest.raises(ValueError, match=r"resolution must be a positive integer or two of them.*, not"):
                load(data, size)

    def test_refuses_another_fit(self):
        with pytest.raises(ValueError, match="fit must be 'crop', 'stretch' or 'cut', not 'squeeze'"):
            Images(3, 8, 8, "squeeze")


def test_reprs_show_what_is_there_and_no_tensors():
    assert repr(load("digits")) == "ImageData('digits', 1797 images (1, 8, 8), 10 classes)"
    assert repr(load("emoji")) == "ImageData('emoji', 1291 images (3, 64, 64), 8 classes, captions)"
    assert repr(load("ring")) == "Points('ring', 10000 points of 8 modes)"
    assert repr(Batches(images(9), 4)) == "Batches('tensor', 9 rows, image, batch_size 4, epoch 0, position 0)"
    assert repr(Batches(domains(), 2)).startswith("Batches('domains', 11 rows, a; b, batch_size 2, epoch 0, ")


def test_identity_tells_other_fields():
    from fastgan.data.identity import difference, identity

    before, now = ({"images": 4, "fields": {"image": kind}, **identity(images(4))} for kind in ("small", "large"))
    assert difference(before, now) == "image: small then, image: large now"
    del before["fields"]
    assert difference(before, now) is None, "an older checkpoint does not say them"
    assert identity(source_of(images(4))) == identity(images(4))
    assert identity(source_of(images(4)))["digest"] != identity(images(4, 1))["digest"]
