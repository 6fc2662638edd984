"""Batches: every image once an epoch, the same batches every time, from any source, by any number of workers."""

import itertools
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from fastgan.data import Batches, ImageData, to_uint8

COUNT = 23


def pixels(channels=3):
    """(23, C, 6, 5) uint8: the first value is the index, the others are noise."""
    images = torch.randint(256, (COUNT, channels, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images[:, 0, 0, 0] = torch.arange(COUNT)
    return images


def data(channels=3):
    labels = torch.arange(COUNT) % 4
    return ImageData(pixels(channels), labels, tuple("abcd"))


class Pictures(Dataset):
    """As torchvision's data sets: (Pillow image, integer). The augmentation draws from all three generators."""

    def __init__(self, channels=3, augment=False):
        self.images = pixels(channels)
        self.augment = augment

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        image = self.images[i].clone()
        if self.augment:
            image[:, 1] = int(torch.randint(256, ()))
            image[:, 2] = random.randrange(256)
            image[:, 3] = int(np.random.randint(256))  # noqa: NPY002
        return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()), i % 4


def take(batches, count):
    return [(batch.image, batch.get("label")) for batch in itertools.islice(batches, count)]


def same(some, others):
    return len(some) == len(others) and all(
        torch.equal(x, y) and (a is b is None or torch.equal(a, b)) for (x, a), (y, b) in zip(some, others)
    )


def indices(images):
    return to_uint8(images)[:, 0, 0, 0].tolist()


SOURCES = {
    "memory": (data, 0),
    "data set": (Pictures, 0),
    "augmented": (lambda: Pictures(augment=True), 0),
    "augmented, 2 workers": (lambda: Pictures(augment=True), 2),
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES.keys())
def make(request):
    source, workers = request.param
    return lambda batch_size=4, **options: Batches(source(), batch_size, workers=workers, **options)


class TestAnySource:
    def test_an_epoch_has_every_image_once_with_its_label(self, make):
        epochs = take(make(drop_last=False), 12)
        for epoch in (epochs[:6], epochs[6:]):
            assert [len(images) for images, _ in epoch] == [4, 4, 4, 4, 4, 3]
            seen = [i for images, _ in epoch for i in indices(images)]
            assert sorted(seen) == list(range(COUNT))
            assert [label for _, labels in epoch for label in labels.tolist()] == [i % 4 for i in seen]

    def test_drop_last_leaves_the_short_batch_out(self, make):
        batches = take(make(), 10)
        assert {len(images) for images, _ in batches} == {4}
        seen = [i for images, _ in batches[:5] for i in indices(images)]
        assert len(set(seen)) == 20

    def test_images_are_normalised_pixels(self, make):
        images = torch.cat([images for images, _ in take(make(batch_size=COUNT), 1)])
        expected = pixels()[indices(images)].double() / 127.5 - 1
        assert images.dtype == torch.float32
        # Rows 1 to 3 are the augmentation's.
        assert (images[:, :, 4:] - expected[:, :, 4:]).abs().max() < 1e-6

    @pytest.mark.parametrize("consumed", [0, 1, 5, 8])
    def test_resumes_with_the_same_batches(self, make, consumed):
        straight = make(seed=5, flip=True, drop_last=False)
        take(straight, consumed)
        state = straight.state_dict()
        assert set(state) == {"epoch", "position"}
        following = take(straight, 9)

        resumed = make(seed=5, flip=True, drop_last=False)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        assert same(take(resumed, 9), following)
        assert resumed.state_dict() == straight.state_dict()

    def test_goes_back_to_a_state(self, make):
        batches = make()
        state = batches.state_dict()
        first = take(batches, 7)
        batches.load_state_dict(state)
        assert same(take(batches, 7), first)

    def test_depends_on_the_seed_alone(self, make):
        torch.manual_seed(1)
        first = take(make(seed=3), 7)
        torch.manual_seed(2)
        random.seed(2)
        assert same(take(make(seed=3), 7), first)
        assert not same(take(make(seed=4), 7), first)

    def test_epochs_differ_and_seeds_do_not_overlap(self, make):
        def epochs(seed):
            batches = take(make(batch_size=COUNT, seed=seed), 3)
            return [tuple(indices(images)) for images, _ in batches]

        assert len(set(epochs(0) + epochs(1))) == 6

    def test_leaves_the_global_generators_alone(self, make):
        torch.manual_seed(0)
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        take(make(flip=True), 7)
        assert states[0] == random.getstate()
        assert states[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
        assert states[2] == torch.get_rng_state().tolist()

    @pytest.mark.parametrize("channels", [1, 3])
    def test_layout(self, channels):
        normalised = pixels(channels).float() / 127.5 - 1
        for source in (data(channels), Pictures(channels), normalised, list(normalised)):
            last = next(Batches(source, 4)).image
            first = next(Batches(source, 4, channels_last=False)).image
            assert last.shape == first.shape == (4, channels, 6, 5)
            assert last.stride() == (30 * channels, 1, 5 * channels, channels)
            assert first.stride() == (30 * channels, 30, 5, 1)
            assert torch.equal(last, first)

    def test_flip_mirrors_about_half_of_the_images(self, make):
        plain, flipped = make(batch_size=COUNT, seed=2), make(batch_size=COUNT, seed=2, flip=True)
        mirrored = 0
        for (x, _), (y, _) in zip(take(plain, 6), take(flipped, 6)):
            for image, other in zip(x, y):
                assert torch.equal(other, image) or torch.equal(other, image.flip(2))
                mirrored += torch.equal(other, image.flip(2))
        # Binomial(138, 1/2): six standard deviations either way.
        assert abs(mirrored - 69) < 36

    def test_batch_size_larger_than_the_data_set(self, make):
        with pytest.raises(ValueError, match="batch_size 24 is larger than the data set, which has 23 images"):
            make(batch_size=24)


def test_memory_and_data_set_give_the_same_batches():
    assert same(take(Batches(data(), 4, flip=True), 8), take(Batches(Pictures(), 4, flip=True), 8))


def test_any_number_of_workers_gives_the_same_batches():
    expected = take(Batches(Pictures(augment=True), 4), 8)
    for workers in (1, 2):
        assert same(take(Batches(Pictures(augment=True), 4, workers=workers), 8), expected)


def test_ranks_share_the_batch_that_one_process_would_yield(make):
    whole = take(make(flip=True, seed=2), 9)
    parts = [make(flip=True, seed=2, rank=rank, ranks=2) for rank in range(2)]
    for (images, labels), first, second in zip(whole, parts[0], parts[1]):
        assert torch.equal(torch.cat([first.image, second.image]), images)
        assert torch.equal(torch.cat([first.label, second.label]), labels)
        assert parts[0].state_dict() == parts[1].state_dict()
    resumed = make(flip=True, seed=2, rank=1, ranks=2)
    resumed.load_state_dict(make(seed=2).state_dict() | {"position": 8})
    assert torch.equal(next(resumed).image, whole[2][0][2:])


def test_augmentations_change_from_epoch_to_epoch():
    batches = Batches(Pictures(augment=True), COUNT)
    by_index = [{i: image[:, 1:4] for i, image in zip(indices(x), x)} for x, _ in take(batches, 2)]
    for row in range(3):
        repeated = sum(torch.equal(by_index[0][i][:, row], by_index[1][i][:, row]) for i in range(COUNT))
        assert repeated <= 3, "an image is augmented alike in every epoch"


def test_a_state_may_be_continued_with_another_batch_size():
    batches = Batches(data(), 4)
    rest = take(batches, 2) and batches.state_dict()
    order = [i for images, _ in take(Batches(data(), 1), COUNT) for i in indices(images)]
    other = Batches(data(), 5)
    other.load_state_dict(rest)
    assert indices(next(other).image) == order[8:13]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "must hold epoch and position, not nothing"),
        ({"epoch": 1}, "must hold epoch and position, not epoch"),
        ({"epoch": 0, "position": 24}, "24 images into an epoch, but the data set has 23"),
        ({"epoch": -1, "position": 0}, "epoch must be an integer >= 0, not -1"),
        ({"epoch": 0, "position": 1.5}, "position must be an integer >= 0, not 1.5"),
    ],
)
def test_refuses_a_state_that_is_not_its_own(state, message):
    batches = Batches(data(), 4)
    take(batches, 3)
    with pytest.raises(ValueError, match=message):
        batches.load_state_dict(state)
    assert batches.state_dict() == {"epoch": 0, "position": 12}


def signed():
    return pixels().float() / 127.5 - 1


ITEMS = {
    "uint8 tensor": lambda i: pixels()[i],
    "float tensor": lambda i: signed()[i],
    "float64 tensor": lambda i: (pixels().double() / 127.5 - 1)[i],
    "NumPy": lambda i: pixels()[i].permute(1, 2, 0).numpy(),
    "NumPy read-only": lambda i: np.broadcast_to(pixels()[i].permute(1, 2, 0).numpy(), (6, 5, 3)),
    "NumPy mirrored": lambda i: pixels()[i].permute(1, 2, 0).numpy()[:, ::-1].copy()[:, ::-1],
    "NumPy float": lambda i: signed()[i].permute(1, 2, 0).numpy(),
    "Pillow": lambda i: Pictures()[i][0],
    "with alpha": lambda i: Pictures()[i][0].convert("RGBA"),
    "tuple": lambda i: (pixels()[i], np.int32(i % 4)),
    "tuple of tensors": lambda i: (signed()[i], torch.tensor(i % 4)),
    "tuple of one": lambda i: (pixels()[i],),
    "tuple without label": lambda i: (pixels()[i], None),
    "list with more": lambda i: [Pictures()[i][0], i % 4, "a file name"],
}


@pytest.mark.parametrize("name", ITEMS)
def test_items_a_data_set_may_have(name):
    source = [ITEMS[name](i) for i in range(COUNT)]
    expected = Batches(data(), 8)
    for images, labels in take(Batches(source, 8), 4):
        batch = next(expected)
        # float64 items are rounded once, uint8 ones in each of two operations.
        assert torch.allclose(images, batch.image, rtol=0, atol=2e-7 if name == "float64 tensor" else 0)
        assert labels is None or torch.equal(labels, batch.get("label"))
        labelled = name in ("tuple", "tuple of tensors", "list with more")
        assert (labels is not None) == labelled


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_pictures_have_one_channel(mode):
    source = [Image.fromarray(np.full((4, 4), 255, np.uint8)).convert(mode)] * 2
    assert torch.equal(next(Batches(source, 2)).image, torch.ones(2, 1, 4, 4))


@pytest.mark.parametrize("mode", ["P", "CMYK", "HSV", "YCbCr"])
def test_coloured_pictures_become_rgb(mode):
    source = [Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)] * 2
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    assert (next(Batches(source, 2)).image - red).abs().max() < 0.02


def test_tensors_and_tensor_data_sets():
    expected = [images for images, _ in take(Batches(data(), 4), 7)]
    for source in (pixels(), signed(), TensorDataset(pixels()), TensorDataset(signed(), torch.arange(COUNT))):
        assert all(torch.equal(x, y) for (x, _), y in zip(take(Batches(source, 4), 7), expected))


class Endless(IterableDataset):
    def __iter__(self):
        yield pixels()[0]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("emojy", ValueError, "unknown data set 'emojy': did you mean 'emoji'"),
        (b"emoji", TypeError, "not bytes: fastgan.data.load gives the named data sets"),
        (None, TypeError, "not NoneType"),
        ({"image": 1}, TypeError, "with __len__ and __getitem__ or with __iter__, not dict"),
        (Endless().__iter__(), TypeError, r"is an iterator \(generator\), which can be read only once"),
        ([], ValueError, "batch_size 2 is larger than the data set, which has 0 images"),
        (pixels()[:0], ValueError, "batch_size 2 is larger than the data set, which has 0 images"),
        (pixels()[0], ValueError, r"the source must be \(N, C, H, W\).*not shape \(3, 6, 5\)"),
        (pixels().permute(0, 2, 3, 1), ValueError, r"seem to be swapped, they came out as \(6, 5, 3\)"),
        (
            pixels().int(),
            TypeError,
            r"the source must be uint8 or floating point in \[-1, 1\], not int32: .*images / white",
        ),
        (
            pixels().float(),
            ValueError,
            r"from 0 to 255, outside \[-1, 1\]: they seem to lie in \[0, 255\]: give uint8, or",
        ),
        (
            pixels().float() / 255,
            ValueError,
            r"the source: no value is negative, they seem to lie in \[0, 1\].*mean 0.5",
        ),
        (signed() * float("nan"), ValueError, "the source hold NaN or infinity"),
    ],
)
def test_refuses_a_source(source, error, message):
    with pytest.raises(error, match=message):
        Batches(source, 2)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([pixels()[0].float()] * 2, ValueError, r"item [01] of the data set: values run from .* outside \[-1, 1\]"),
        ([pixels()[0].float() / 255] * 2, ValueError, r"first 2 images: no value is negative.*\[0, 1\]"),
        ([pixels()[0], pixels()[0][:, 1:]], ValueError, r"item . is uint8 \(3, ., 5\) without a label, item . is"),
        ([pixels()[0], (pixels()[0], 1)], ValueError, "items must be alike.* with a label"),
        ([pixels()[0], signed()[0]], ValueError, "items must be alike.*float32"),
        ([(pixels()[0], 0.5)] * 2, TypeError, "item [01] of the data set: the second entry must be an integer label"),
        ([(pixels()[0], pixels()[0])] * 2, TypeError, "must be an integer label, not Tensor"),
        (
            [{"image": pixels()[0], "text": "a dog"}] * 2,
            TypeError,
            "item [01] of the data set, text must be .*not str",
        ),
        ([{}] * 2, TypeError, "item [01] of the data set: a mapping must go from names"),
        ([object()] * 2, TypeError, "item [01] of the data set is a object"),
        ([pixels()[0].permute(1, 2, 0)] * 2, ValueError, r"seem to be swapped, they came out as \(6, 5, 3\)"),
        ([pixels()[0].numpy()] * 2, ValueError, r"seem to be swapped, they came out as \(5, 3, 6\)"),
        ([pixels()[0, 0]] * 2, ValueError, r"must be \(C, H, W\), not of shape \(6, 5\)"),
        ([np.zeros((2, 2, 2, 2), np.uint8)] * 2, ValueError, r"NumPy image must be \(H, W\) or \(H, W, C\)"),
        ([Image.new("I;16", (4, 4))] * 2, TypeError, "mode 'I;16', which is not of 8 bits"),
    ],
)
def test_refuses_an_item_when_it_is_read(source, error, message, workers):
    batches = Batches(source, 2, workers=workers)
    with pytest.raises(error, match=message) as raised:
        next(batches)
    assert "Traceback" not in str(raised.value)


class Flawed(Pictures):
    """Item 7 is truncated until it is mended."""

    mended = False

    def __getitem__(self, i):
        if i == 7 and not self.mended:
            raise OSError("image file is truncated")
        return super().__getitem__(i)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_set_loses_nothing(workers):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    expected, batches = Batches(Pictures(), 4), Batches(source := Flawed(), 4, workers=workers)
    order = [i for images, _ in take(Batches(Pictures(), 1), COUNT) for i in indices(images)]
    before = order.index(7) // 4
    got = take(batches, before)
    with pytest.raises(RuntimeError, match=r"item 7 of the data set cannot be read: OSError\('image file is truncated"):
        next(batches)
    source.mended = True
    got += take(batches, 4)
    assert same(got, take(expected, before + 4))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_names_the_picture_that_does_not_decode(tmp_path, workers):
    file = tmp_path / "truncated.png"
    Pictures()[0][0].resize((64, 64)).save(file)
    file.write_bytes(file.read_bytes()[:2000])
    message = r"item 0 of the data set cannot be read: OSError"
    with Image.open(file) as picture, pytest.raises(RuntimeError, match=message):
        next(Batches([picture], 1, workers=workers))


def test_refuses_items_that_change_from_batch_to_batch():
    source = [pixels()[0][:, : 6 - i] for i in range(2)]
    batches = Batches(source, 1)
    next(batches)
    with pytest.raises(ValueError, match="items must be alike, but some are uint8"):
        next(batches)


def test_bright_images_in_the_right_range_are_not_suspected():
    picture = torch.zeros(1, 2, 2, dtype=torch.uint8)
    order = [int(labels) for _, labels in take(Batches([(picture, i) for i in range(100)], 1), 100)]
    source = [torch.ones(1, 2, 2)] * 100
    source[order[60]] = -source[0]
    assert len(take(Batches(source, 1), 100)) == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive integer, not 0"),
        ({"batch_size": 4.0}, "batch_size must be a positive integer, not 4.0"),
        ({"seed": -1}, "seed must be an integer >= 0, not -1"),
        ({"workers": -1}, "workers must be an integer >= 0, not -1"),
        ({"memory": 1.5}, "memory must be an integer >= 0, not 1.5"),
        ({"ranks": 0}, "ranks must be a positive integer, not 0"),
        ({"rank": 2, "ranks": 2}, r"rank must be less than ranks \(2\), not 2"),
        ({"ranks": 3}, "batch_size 4 cannot be divided among 3 processes: choose a multiple"),
        ({"ranks": 2, "drop_last": False}, "drop_last must be True with several ranks"),
    ],
)
def test_says_which_argument_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        Batches(data(), **{"batch_size": 4, **options})


@pytest.mark.processes
def test_needs_no_torchvision():
    code = (
        "import sys, fastgan.data as d; next(d.Batches(d.load('emoji'), 8)); "
        "sys.exit('torchvision' in sys.modules or 'sklearn' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stream", [False, True])
def test_transparency_that_is_dropped_is_counted(workers, stream):
    from PIL import Image

    clear, solid = (Image.new("RGBA", (8, 8), (255, 0, 0, alpha)) for alpha in (9, 255))
    items = [(clear, 0), (solid, 0), (clear, 1), (Image.new("L", (8, 8)).convert("RGB"), 1)]

    class Stream:
        def __iter__(self):
            return iter(items)

    batches = Batches(Stream() if stream else items, 4, workers=workers)
    next(batches)
    [line] = batches.problems()
    assert line.startswith("converted (transparency dropped): 2 by now, such as item ")
