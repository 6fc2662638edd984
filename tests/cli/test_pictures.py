"""sample --numbers, interpolate and arithmetic, as a user meets them."""

import numpy as np
import pytest
import torch
from PIL import Image

import fastgan
from fastgan.cli import drawing, main
from fastgan.cli.arithmetic import parse
from fastgan.data import scatter
from fastgan.runs import load
from fastgan.systems import Generative, create


@pytest.fixture
def draw(run, tmp_path):
    """The picture, or the list of frames, that a command draws: (H, W) uint8."""

    def command(name, *arguments, out="picture.png"):
        path = tmp_path / out
        assert main([name, str(run), *map(str, arguments), "--out", str(path)]) == 0
        with Image.open(path) as image:
            if path.suffix != ".gif":
                return as_made(np.array(image))
            frames = []
            for index in range(image.n_frames):
                image.seek(index)
                frames.append((as_made(np.array(image.convert("L"))), image.info["duration"]))
            return frames

    return command


def as_made(picture):
    """What it was before each pixel was repeated, for people to see."""
    assert max(picture.shape[:2]) >= 400  # a picture of points; others are of 512 at least
    for times in range(min(picture.shape[:2]) // 8, 0, -1):
        before = picture[::times, ::times]
        if not any(side % times for side in picture.shape[:2]):
            again = before.repeat(times, 0).repeat(times, 1)
            if np.array_equal(again, picture):
                return before
    raise AssertionError("times is at least 1")


@pytest.fixture
def wrong(run, error):
    """The one line that a mistake in a command about the run gives."""
    return lambda name, *arguments: error(name, run, *arguments)


def cell(picture, row, column, size=16):
    top, left = 2 + row * (size + 2), 2 + column * (size + 2)
    return picture[top : top + size, left : left + size]


def small(enlarged, times):
    return enlarged[::times, ::times]


class TestSample:
    def test_as_many_as_asked_for_and_the_first_stay_the_same(self, draw):
        few, many = draw("sample", "--count", 3, "--columns", 1), draw("sample", "--count", 21, "--columns", 1)
        assert many.shape == (21 * 18 + 2, 20)
        np.testing.assert_array_equal(few[:56], many[:56])

    def test_samples_are_those_of_python(self, run, draw):
        generator = torch.Generator().manual_seed(5)
        images = load(run, device="cpu").sample(16, generator=generator)
        expected = ((images[3, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        picture = draw("sample", "--seed", 5, "--count", 16, "--columns", 4)
        np.testing.assert_allclose(cell(picture, 0, 3).astype(int), expected, atol=1)

    def test_numbers(self, draw):
        plain, numbered = draw("sample", "--count", 12), draw("sample", "--count", 12, "--numbers")
        assert numbered.shape == (3 * 66 + 2, 4 * 66 + 2)  # four times as large, to be read
        for number in range(12):
            at = divmod(number, 4)
            before, after = cell(plain, *at), cell(numbered, *at, size=64)
            np.testing.assert_array_equal(small(after, 4)[4:], before[4:])
            assert not after[0, :6].any()  # on black
            assert after[:14, :20].max() > 180  # text

    def test_weights(self, draw):
        pictures = [
            draw("sample", "--count", 2, *which).tobytes()
            for which in ((), ("--raw",), ("--checkpoint", "previous"), ("--checkpoint", "previous", "--raw"))
        ]
        assert len(set(pictures)) == 4

    def test_large_cells_are_not_enlarged(self):
        images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
        labelled = drawing.labelled(images, ["7", ""])
        assert labelled.shape == images.shape
        assert labelled[0].any()
        assert not labelled[1].any()


class TestOut:
    """Where a picture goes, and as what."""

    @pytest.mark.parametrize(
        ("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")]
    )
    def test_the_format_that_the_name_asks_for(self, run, tmp_path, name, kind):
        assert main(["sample", str(run), "--count", "4", "--out", str(tmp_path / name)]) == 0
        with Image.open(tmp_path / name) as image:
            assert image.format == kind
            picture = np.array(image.convert("L")).astype(int)
        assert main(["sample", str(run), "--count", "4", "--out", str(tmp_path / "exact.png")]) == 0
        with Image.open(tmp_path / "exact.png") as image:
            assert abs(picture - np.array(image)).mean() < (3 if kind == "JPEG" else 1e-9)

    @pytest.mark.parametrize("made", [True, False])
    def test_a_folder_has_a_file_each(self, run, tmp_path, monkeypatch, made):
        folder, sizes = tmp_path / "many", []
        if made:
            folder.mkdir()
        sample = Generative.sample
        monkeypatch.setattr(Generative, "sample", lambda self, n, **more: sizes.append(n) or sample(self, n, **more))
        assert main(["sample", str(run), "--count", "150", "--out", str(folder) + ("" if made else "/")]) == 0
        assert sorted(path.name for path in folder.iterdir()) == [f"{number:05}.png" for number in range(150)]
        assert sizes == [64, 64, 22]  # never all at once
        system = load(run)
        expected = drawing.cells(system, drawing.latents(system, range(150), 0))
        for number in 0, 63, 64, 149:
            with Image.open(folder / f"{number:05}.png") as image:
                np.testing.assert_allclose(np.array(image).astype(int), expected[number, 0].int(), atol=1)

    @pytest.mark.parametrize(
        ("command", "arguments", "message"),
        [
            ("sample", ["--out", "a.gif"], "ends in .png, .jpg, .jpeg or .webp, or a folder for a picture each, as a"),
            ("sample", ["--out", "a"], "or a folder for a picture each, as a/, not 'a'"),
            ("sample", ["--out", "full"], "the folder full holds 1 files already: choose a new one or empty it"),
            ("sample", ["--out", "new/", "--numbers"], "leave out --numbers and --columns"),
            ("sample", ["--out", "no/new/"], "there is no directory no, create it first"),
            ("sample", ["--out", "no/a.png"], "there is no directory no, create it first"),
            ("sample", ["--out", "/proc/a.png"], "cannot write /proc/a.png: /proc cannot be written to"),
            ("interpolate", ["--out", "full/"], "--out must be a file, and 'full/' is a directory"),
            ("arithmetic", ["1", "--out", "full"], "--out must be a file, and 'full' is a directory"),
            ("arithmetic", ["1", "--out", "/proc/a.gif"], "/proc cannot be written to"),
            ("project", ["full/file.png", "--out", "a.jpg"], "--out must be a file that ends in .png, not 'a.jpg'"),
            ("report", ["--out", "full"], "--out must be a file, and 'full' is a directory"),
            ("report", ["--out", "a.pdf"], "--out must be a file that ends in .html or .htm, not 'a.pdf'"),
            ("export", ["--out", "full"], "must be a file, and 'full' is a directory"),
            ("export", ["--out", "/proc/a.pt2"], "/proc cannot be written to"),
            ("evaluate", ["--json", "full"], "--json must be a file, and 'full' is a directory"),
        ],
    )
    def test_says_what_is_wrong_before_the_work(self, run, wrong, tmp_path, monkeypatch, command, arguments, message):
        def too_late(*_, **__):
            raise AssertionError("the run was loaded")

        monkeypatch.setattr("fastgan.runs.run.Run.read", too_late)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file.png").touch()
        assert message in wrong(command, *arguments)
        assert [path.name for path in tmp_path.iterdir()] == ["full"]

    @pytest.mark.parametrize("option", ["--json", "--chart"])
    @pytest.mark.parametrize(
        ("out", "message"),
        [
            ("full", "must be a file, and"),
            ("no/a.png", "there is no directory no"),
            ("/proc/a.png", "cannot be written"),
        ],
    )
    def test_bench(self, tmp_path, monkeypatch, capsys, option, out, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "full").mkdir()
        monkeypatch.setattr("fastgan.cli.bench._measure", lambda args: pytest.fail("it has measured"))
        assert main(["bench", "ops", option, out]) == 2
        assert message in capsys.readouterr().err


class TestInterpolate:
    def test_rows(self, draw):
        picture = draw("interpolate", "--rows", 3, "--steps", 4, "--seed", 2)
        samples = draw("sample", "--count", 6, "--columns", 6, "--seed", 2)
        assert picture.shape == (3 * 18 + 2, 4 * 18 + 2)
        for row in range(3):
            for column, number in (0, 2 * row), (3, 2 * row + 1):
                difference = cell(picture, row, column).astype(int) - cell(samples, 0, number)
                assert abs(difference).max() <= 1
            assert (cell(picture, row, 1) != cell(picture, row, 0)).any()

    def test_from_to(self, draw):
        picture = draw("interpolate", "--from", 20, "--to", 3, "--steps", 3)
        samples = draw("sample", "--count", 21, "--columns", 21)
        for column, number in (0, 20), (2, 3):
            assert abs(cell(picture, 0, column).astype(int) - cell(samples, 0, number)).max() <= 1

    def test_modes(self, draw):
        spherical, linear = (draw("interpolate", "--rows", 1, "--mode", mode) for mode in ("spherical", "linear"))
        np.testing.assert_array_equal(cell(spherical, 0, 0), cell(linear, 0, 0))
        assert (cell(spherical, 0, 5) != cell(linear, 0, 5)).any()

    def test_gif_goes_there_and_back(self, draw):
        film = draw("interpolate", "--rows", 1, "--steps", 4, out="way.gif")
        row = draw("interpolate", "--rows", 1, "--steps", 4)
        assert len(film) == 6
        for (frame, milliseconds), column in zip(film, (0, 1, 2, 3, 2, 1)):
            assert milliseconds == 100
            assert frame.shape == (20, 20)
            np.testing.assert_array_equal(cell(frame, 0, 0), cell(row, 0, column))

    def test_two_steps(self, draw):
        assert len(draw("interpolate", "--rows", 1, "--steps", 2, out="way.gif")) == 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--out", "a.jpg"], "--out must be a file that ends in .png or .gif, not 'a.jpg'"),
            (["--out", "nowhere/a.png"], "there is no directory nowhere, create it first"),
            (["--from", "3"], "--from and --to go together, as in --from 3 --to 14"),
            (["--from", "3", "--to", "4", "--rows", "2"], "choose"),
            (["--rows", "0"], "--rows must be at least 1, not 0"),
            (["--steps", "1"], "--steps must be at least 2, not 1"),
            (["--from", "-1", "--to", "4"], "sample numbers lie in 0..99999, not -1"),
            (["--seed", "-1"], "--seed must lie in 0..2**63 - 1, not -1"),
            (["--checkpoint", "best"], "no best checkpoint"),
        ],
    )
    def test_says_what_is_wrong(self, wrong, tmp_path, monkeypatch, arguments, message):
        monkeypatch.chdir(tmp_path)
        assert message in wrong("interpolate", *arguments)


class TestArithmetic:
    @pytest.mark.parametrize(
        ("expression", "terms"),
        [
            ("1", [("+", [1])]),
            ("1,5,7 - 2,3,9 + 4,6,8", [("+", [1, 5, 7]), ("-", [2, 3, 9]), ("+", [4, 6, 8])]),
            (" 10 , 2-3 ", [("+", [10, 2]), ("-", [3])]),
            ("- 1 + 2", [("-", [1]), ("+", [2])]),
        ],
    )
    def test_parse(self, expression, terms):
        assert parse(expression) == terms

    @pytest.mark.parametrize("expression", ["", "1 +", "1,,2", "1 2", "1 - - 2", "1.5", "a", "1*2", ",1", "1,", "١"])
    def test_cannot_read(self, wrong, expression):
        message = wrong("arithmetic", expression)
        assert f"cannot read {expression!r}: write sample numbers" in message
        assert message.endswith('as in "1,5,7 - 2,3,9 + 4,6,8"')

    def test_picture(self, run, draw):
        picture = draw("arithmetic", "1,5,7 - 2,3 + 20", "--seed", 4)
        samples = draw("sample", "--count", 21, "--columns", 21, "--seed", 4)
        assert picture.shape == (4 * 66 + 2, 5 * 66 + 2)

        def below(row, column):  # what no label covers
            return small(cell(picture, row, column, 64), 4)[4:].astype(int)

        for row, numbers in enumerate([[1, 5, 7], [2, 3], [20]]):
            for column, number in enumerate(numbers):
                assert abs(below(row, column) - cell(samples, 0, number)[4:]).max() <= 1
            for column in range(len(numbers), 4):
                assert not below(row, column).any()
        assert abs(below(2, 4) - below(2, 0)).max() <= 1  # the mean of one

        system = load(run, device="cpu")
        z = drawing.latents(system, range(21), 4)
        latents = z[[1, 5, 7]].mean(0), z[[2, 3]].mean(0), z[20]
        for row, latent in enumerate([*latents, latents[0] - latents[1] + latents[2]]):
            expected = drawing.cells(system, latent[None])[0, 0, 4:].int()
            assert abs(below(row, 4) - expected.numpy()).max() <= 1
        for column in range(4):  # the result with noise
            assert 0 < abs(below(3, column) - below(3, 4)).mean() < 60
            assert (below(3, column) != below(3, (column + 1) % 4)).any()

    def test_gif_goes_from_the_first_mean_to_the_result(self, draw):
        film = draw("arithmetic", "1,2 - 3", out="sum.gif")
        picture = draw("arithmetic", "1,2 - 3")
        assert (len(film), film[-1][1]) == (20, 1000)
        for frame, row in (film[0][0], 0), (film[-1][0], 2):
            mean = small(cell(picture, row, 4, 64), 4)
            assert abs(frame[4:].astype(int) - mean[4:]).max() <= 1

    def test_a_leading_minus(self, draw):
        assert draw("arithmetic", "- 1 + 2").shape == (3 * 66 + 2, 5 * 66 + 2)

    def test_numbers_out_of_range(self, wrong):
        assert "sample numbers lie in 0..99999, not 100000" in wrong("arithmetic", "1 - 100000")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "digits.safetensors"
    assert main(["export", str(run), "--out", str(path)]) == 0
    return path


class TestExported:
    """Everything draws from an exported file as from its run."""

    @pytest.mark.parametrize("command", [["sample"], ["interpolate"], ["arithmetic", "1 - 2"]])
    def test_the_same_picture(self, run, exported, tmp_path, command):
        for source, out in (run, "a.png"), (exported, "b.png"):
            assert main([command[0], str(source), *command[1:], "--out", str(tmp_path / out)]) == 0
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    @pytest.mark.parametrize("option", [["--raw"], ["--checkpoint", "previous"]])
    def test_holds_one_set_of_weights(self, exported, capsys, option):
        assert main(["sample", str(exported), *option]) == 2
        assert "holds one set of weights" in capsys.readouterr().err

    def test_named_after_the_run(self, run, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert main(["export", str(run)]) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.safetensors"]
        assert "`fastgan sample digits.safetensors`" in capsys.readouterr().out

    def test_says_what_is_wrong(self, wrong):
        assert "ends in .safetensors, .pt2 or .onnx, not 'weights.pt'" in wrong("export", "--out", "weights.pt")
        assert "no best checkpoint" in wrong("export", "--checkpoint", "best")


def test_colour_and_other_channels():
    for channels, shown in (1, 1), (2, 1), (3, 3):
        system = create("dcgan", resolution=16, channels=channels, width=4, latent=5)
        cells = drawing.cells(system, drawing.latents(system, [0, 65, 2], 0))
        assert cells.shape == (3, shown, 16, 16)
        assert cells.dtype == torch.uint8


class TestPoints:
    """Of a run on `ring`: dots in one picture."""

    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory):
        out = tmp_path_factory.mktemp("runs") / "ring"
        arguments = ["--data", "ring", "--width", "4", "--set", "latent=2", "--steps", "2", "--batch-size", "8"]
        assert main(["train", "gan", *arguments, "--sample-every", "2", "--device", "cpu", "--out", str(out)]) == 0
        return out

    def test_training(self, run):
        with Image.open(run / "samples/step-000002.png") as image:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert pixels.shape == (3, 400, 400)
        assert load(run).config.latent == 2
        points = load(run).sample(1000, latent=load(run).latent(1000, torch.Generator().manual_seed(0)))
        assert torch.equal(pixels, scatter(points, fastgan.data.load("ring").points))

    def test_sample(self, draw, run, capsys):
        picture = draw("sample", "--count", 5)
        assert picture.shape == (400, 400, 3)
        assert "5 points" in capsys.readouterr().out
        assert not np.array_equal(picture, draw("sample"))
        assert "1000 points" in capsys.readouterr().out

    def test_interpolate(self, draw):
        assert draw("interpolate", "--rows", 2, "--steps", 3).shape == (400, 400, 3)
        frames = draw("interpolate", "--rows", 2, "--steps", 3, out="ways.gif")
        assert [frame.shape for frame, _ in frames] == [(400, 400)] * 4

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("sample", "--numbers"), "leave out --numbers"),
            (("sample", "--columns", "3"), "leave out --numbers and --columns"),
            (("arithmetic", "1 - 2"), "makes points; arithmetic draws sums of pictures"),
        ],
    )
    def test_says_what_is_wrong(self, wrong, arguments, message):
        assert message in wrong(*arguments)
