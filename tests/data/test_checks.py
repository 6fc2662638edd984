"""Images are refused, or taken, alike wherever they enter."""

import numpy as np
import pytest
import torch

from fastgan.data import Batches, grid, to_uint8
from fastgan.data.gather import gather
from fastgan.latent import project
from fastgan.metrics import Classifier, FileFeatures, SlicedWasserstein, evaluate


def images(count=64, channels=3, side=8):
    """uint8"""
    return torch.randint(256, (count, channels, side, side), generator=torch.Generator().manual_seed(0)).byte()


PIXELS = images()
SIGNED = PIXELS.float() / 127.5 - 1


def plain(given):
    return given[:, :, ::2, ::2].flatten(1).float()


class Network:
    """What stands behind FileFeatures."""

    classes = 0
    path, device = "network", torch.device("cpu")
    _network, _options = staticmethod(plain), {}


def stream(given):
    class Once:
        def __iter__(self):
            return iter(given)

    return Once()


def batches(source):
    return [next(source) for _ in range(5)]


SETS = {  # doors that take a whole set
    "tensor": lambda given: next(Batches(given, 4)),
    "items": lambda given: batches(Batches(list(given), 16, workers=0)),
    "stream": lambda given: batches(Batches(stream(given), 16, workers=0)),
    "gather": lambda given: gather(given, 64),
    "gathered stream": lambda given: gather(stream(given), 64, workers=0),
    "evaluate": lambda given: evaluate(given, PIXELS, features=plain, metrics=["frechet"]),
    "evaluate a function": lambda given: evaluate(
        lambda count: given[:count], PIXELS, samples=64, features=plain, metrics=["frechet"]
    ),
    "evaluate's data": lambda given: evaluate(PIXELS, given, features=plain, metrics=["frechet"]),
    "SlicedWasserstein": SlicedWasserstein,
    "its distance": lambda given: SlicedWasserstein(PIXELS).distance(given),
}
DOORS = {
    **SETS,
    "Classifier's images": lambda given: Classifier.__call__(Trained, given),
    "FileFeatures": lambda given: FileFeatures.__call__(Network, given),
    "project": lambda given: project(lambda z: z.expand(1, 3, 8, 8), given[0], torch.zeros(1, 1, 1, 1), steps=1),
    "grid": grid,
    "to_uint8": to_uint8,
}


class Trained:
    channels, side, classes, device = 3, 32, 0, torch.device("cpu")

    class Layers:
        def __getitem__(self, _):
            return lambda given: given.flatten(1)

    _network = Layers()


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
class TestEveryDoor:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_takes(self, door, dtype):
        door(PIXELS if dtype == torch.uint8 else SIGNED.to(dtype))

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (
                PIXELS.float(),
                ValueError,
                r"outside \[-1, 1\]: they seem to lie in \[0, 255\]: give uint8, or images / ",
            ),
            (
                SIGNED * 2.5,
                ValueError,
                r"values run from -2\.\d+ to 2\.\d+, outside \[-1, 1\]: give uint8, or normalise to",
            ),
            (PIXELS.int(), TypeError, r"must be uint8 or floating point in \[-1, 1\], not int32: .*images / white"),
            (PIXELS.long(), TypeError, r"not int64: .*no known white"),
            (PIXELS.to(torch.uint16), TypeError, r"not uint16: .*no known white"),
            (PIXELS > 127, TypeError, r"not bool: give images \* 2.0 - 1"),
        ],
        ids=["0..255", "standardised", "int32", "int64", "uint16", "bool"],
    )
    def test_refuses(self, door, given, error, message):
        with pytest.raises(error, match=message):
            door(given)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    def test_refuses_what_is_not_finite(self, door, value):
        given = SIGNED.clone()
        given[2:, 0, 0, 0] = value
        if door is DOORS["project"]:
            given = given[2:]
        with pytest.raises((ValueError, FloatingPointError), match="hold NaN or infinity"):
            door(given)


@pytest.mark.parametrize("door", SETS.values(), ids=SETS)
class TestWholeSets:
    def test_in_0_to_1_is_refused(self, door):
        with pytest.raises(
            ValueError, match=r"no value is negative, they seem to lie in \[0, 1\]: give images \* 2 - 1"
        ):
            door(PIXELS.float() / 255)

    def test_dark_and_bright_images_are_taken(self, door):
        """One value below 0 in all of them is enough; uint8 leaves nothing to guess."""
        door(SIGNED.clamp(-1, -0.5))
        bright = SIGNED.clamp(min=0)
        bright[1, 0, 3, 3] = -0.1
        door(bright)
        door(PIXELS.clamp(min=200))


class TestShapes:
    DOORS = (
        lambda given: evaluate(given, PIXELS, features=plain),
        SlicedWasserstein,
        lambda given: Classifier(given),
        lambda given: Batches(given, 4),
    )

    @pytest.mark.parametrize("door", DOORS)
    def test_channels_last_is_told(self, door):
        with pytest.raises(ValueError, match=r"channels, height, width seem to be swapped.*\(8, 8, 3\)"):
            door(PIXELS.permute(0, 2, 3, 1))

    @pytest.mark.parametrize("door", DOORS)
    def test_a_channel_is_missing(self, door):
        with pytest.raises(ValueError, match=r"must be \(N, C, H, W\), not shape \(64, 8, 8\): images.unsqueeze\(1\)"):
            door(PIXELS[:, 0])

    @pytest.mark.parametrize("door", DOORS[:3])
    def test_an_array_is_told_how(self, door):
        with pytest.raises(TypeError, match=r"a tensor \(N, C, H, W\), not ndarray: torch.from_numpy\(array\).permute"):
            door(PIXELS.permute(0, 2, 3, 1).numpy())

    @pytest.mark.parametrize(("channels", "side"), [(1, 8), (2, 8), (4, 8), (3, 16)])
    def test_of_another_size(self, channels, side):
        other = images(64, channels, side)
        shape = rf"has shape \({channels}, {side}, {side}\) \(channels, height, width\)"
        with pytest.raises(ValueError, match=f"a generated image {shape}, the data"):
            evaluate(other, PIXELS, features=plain)
        with pytest.raises(ValueError, match=f"a fake image {shape}, a real one"):
            SlicedWasserstein(PIXELS).distance(other)
        with pytest.raises(ValueError, match=f"picture {shape}, the generator's images"):
            project(lambda z: z.expand(1, 3, 8, 8), other[0], torch.zeros(1, 1, 1, 1))

    def test_features_of_other_channels(self):
        with pytest.raises(ValueError, match="must have 3 channels, as those trained on, not 1"):
            DOORS["Classifier's images"](images(4, 1))
        with pytest.raises(ValueError, match=r"must have 1 or 3 channels, not shape \(4, 2, 8, 8\)"):
            FileFeatures.__call__(Network, images(4, 2))

    @pytest.mark.parametrize("kind", ["<u2", ">u2", "int64", "bool", "complex64", "O", "U1"])
    def test_items_of_other_kinds(self, kind):
        pixels = np.zeros((8, 8, 3)).astype(kind)
        with pytest.raises(TypeError, match=r"item \d of the data set must be"):
            next(Batches([pixels] * 2, 2))

    @pytest.mark.parametrize("kind", [">f4", "<f2", "f8", "uint8"])
    def test_items_of_any_precision_and_byte_order(self, kind):
        pixels = (np.arange(192).reshape(8, 8, 3) / 96 - 1).astype(kind)
        got = next(Batches([pixels] * 2, 2)).image[0]
        wanted = pixels.astype("f4") / 127.5 - 1 if kind == "uint8" else pixels.astype("f4")
        torch.testing.assert_close(got, torch.from_numpy(wanted.transpose(2, 0, 1)))


def test_conversions_undo_each_other():
    from fastgan.data.pictures import to_float

    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert torch.equal(to_float(every), every.float() / 127.5 - 1)
    values = torch.rand(3)
    assert torch.equal(to_float(values), values)


class TestSystems:
    """A system's own samples are meant for [-1, 1]: nothing is guessed, what overshoots is clamped."""

    class Fixed:
        device = torch.device("cpu")

        def __init__(self, value):
            self.value = value

        def sample(self, count, **_):
            return torch.full((count, 3, 8, 8), self.value)

    @pytest.mark.parametrize("value", [1.0, 0.25, 1.5, -2.0])
    def test_whatever_it_makes_is_measured(self, value):
        evaluate(self.Fixed(value), PIXELS, features=plain, metrics=["sliced_wasserstein"])

    def test_but_not_nan(self):
        with pytest.raises(FloatingPointError, match="the generator has diverged"):
            evaluate(self.Fixed(torch.nan), PIXELS, features=plain, metrics=["frechet"])
