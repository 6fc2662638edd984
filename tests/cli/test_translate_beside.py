"""fastgan translate: what is given beside pictures, the size that they are brought to, and what is wrong with them."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.cli import asked, main
from fastgan.data import load, save_png
from fastgan.systems import create
from fastgan.systems.translator import Translator

SMALL = {
    "pairedcyclegan": {"resolution": 16, "width": 4, "blocks": 1, "layers": 1},
    "context-encoder": {"resolution": 32, "width": 4, "bottleneck": 8, "overlap": 2},
    "colorization": {"resolution": 16, "width": 4},
    "srgan": {"resolution": 16, "width": 4, "blocks": 1, "perceptual": "none"},
}


@pytest.fixture
def translate(tmp_path, monkeypatch, capsys):
    """Calls the command in a folder with four pictures; returns its code and what it says."""
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(load("emoji").images[:4]):
        (tmp_path / "in/deep").mkdir(parents=True, exist_ok=True)
        save_png(tmp_path / ("in/deep" if number == 3 else "in") / f"{number}.png", image[:, :40, :50])

    def call(system, words, **options):
        made = system if isinstance(system, Translator) else create(system, **{**SMALL[system], **options})
        monkeypatch.setattr("fastgan.cli.translate.trained", lambda args: made)
        code = main(["translate", "run", *words.split()])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


@pytest.fixture
def seen(monkeypatch):
    """What each call of a system's `translate` gets."""
    calls = []
    original = Translator.translate

    def kept(self, images, direction=None, **inputs):
        calls.append((images, inputs))
        return original(self, images, direction, **inputs)

    monkeypatch.setattr(Translator, "translate", kept)
    return calls


def gray(path, value, size=(50, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


class TestFolders:
    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_references(self, translate, seen, tmp_path, kind):
        for number, name in enumerate(["0", "1", "2", "deep/3"]):
            gray(tmp_path / f"faces/{name}.webp", 60 * number, (20, 30))
        where = "faces" if kind == "folder" else "faces/2.webp"
        assert translate("pairedcyclegan", f"in --out made --reference {where}") == (0, "made: 4 pictures translated\n")
        values = [round((inputs["reference"].mean().item() + 1) * 127.5) for _, inputs in seen]
        assert np.allclose(values, [0, 60, 120, 180] if kind == "folder" else [120] * 4, atol=2)

    def test_masks(self, translate, seen, tmp_path):
        for number, name in enumerate(["0", "1", "2", "deep/3"]):
            gray(tmp_path / f"masks/{name}.png", 255 * (number % 2))
        code, _ = translate("context-encoder", "in --out made --mask masks --sheet sheet.png", holes="random")
        assert code == 0
        assert [inputs["mask"].mean().item() for _, inputs in seen] == [0, 1, 0, 1]
        with Image.open("sheet.png") as sheet:
            assert sheet.size == (3 * 258 + 2, 4 * 258 + 2)
            assert sheet.getpixel((258 + 128, 128)) == (0, 0, 0)
            assert sheet.getpixel((258 + 128, 258 + 128)) == (255, 255, 255)

    def test_hints_of_each(self, translate, seen, tmp_path):
        (tmp_path / "hints").mkdir()
        for number in range(3):
            (tmp_path / f"hints/{number}.txt").write_text(f"{number} 0 #ff0000 1")
        assert translate("colorization", "in/0.png in/1.png in/2.png --out made --hints hints")[0] == 0
        places = [inputs["hints"][0, 3].nonzero().tolist() for _, inputs in seen]
        assert places == [[[0, 0]], [[0, 1]], [[0, 2]]]

    def test_what_is_missing_is_said_before_anything_is_made(self, translate, tmp_path):
        gray(tmp_path / "faces/1.png", 0)
        code, said = translate("pairedcyclegan", "in --out made --reference faces")
        assert code == 2
        assert "faces has no reference for 3 of 4 pictures: 0, 2, deep/3; each needs a file of its name" in said
        assert not (tmp_path / "made").exists()

    def test_two_of_one_name(self, translate, tmp_path):
        gray(tmp_path / "faces/1.png", 0)
        gray(tmp_path / "faces/1.webp", 0)
        _, said = translate("pairedcyclegan", "in/1.png --out made --reference faces")
        assert "faces/1.png and faces/1.webp could both be the reference of 1: leave one there" in said

    def test_the_truth_on_the_sheet(self, translate, tmp_path):
        gray(tmp_path / "white.png", 255)
        assert translate("srgan", "in --out made --sheet sheet.png --truth white.png")[0] == 0
        with Image.open("sheet.png") as sheet:
            assert sheet.getpixel((2 * 258 + 128, 128)) == (255, 255, 255)


class TestSize:
    @pytest.mark.parametrize(("size", "expected"), [("20", (20, 25)), ("24x16", (24, 16)), ("80", (80, 100))])
    def test_of_pictures(self, translate, tmp_path, size, expected):
        assert translate("srgan", f"in --out made --size {size}")[0] == 0
        with Image.open("made/deep/3.png") as made:
            assert made.size == (4 * expected[1], 4 * expected[0])

    def test_masks_and_hints_are_brought_along(self, translate, seen, tmp_path):
        pixels = np.zeros((40, 50), np.uint8)
        pixels[7, 9] = 255  # a single pixel
        Image.fromarray(pixels).save(tmp_path / "mask.png")
        (tmp_path / "hints.txt").write_text("9 7 #ff0000 1")
        assert translate("colorization", "in/0.png --out a.png --size 8 --hints hints.txt")[0] == 0
        assert seen[-1][1]["hints"][0, 3, :8, :10].nonzero().tolist() == [[1, 1]]
        words = "in/0.png --out b.png --size 32 --mask mask.png"
        assert translate("context-encoder", words, holes="random")[0] == 0
        assert seen[-1][1]["mask"][0, 0, :32, :40].nonzero().tolist() == [[5, 7], [6, 7]]

    def test_a_mask_of_the_size_itself(self, translate, seen, tmp_path):
        gray(tmp_path / "mask.png", 255, (40, 32))
        words = "in --out made --size 32x40 --mask mask.png"
        assert translate("context-encoder", words, holes="random")[0] == 0
        assert all(inputs["mask"].min() == 1 for _, inputs in seen)

    def test_a_fixed_size_keeps_the_known_pixels(self, translate, tmp_path):
        assert translate("context-encoder", "in/0.png --out made.png") == (0, "made.png: 1 picture translated\n")
        before, after = (np.array(Image.open(name).convert("RGB")) for name in ("in/0.png", "made.png"))
        assert (before[:12] == after[:12]).all()
        assert (before != after)[15:25, 15:35].any()


@pytest.mark.parametrize(
    ("system", "words", "message"),
    [
        ("pairedcyclegan", "in --out made", "applies the make-up of a reference: give one, or take direction remove"),
        ("pairedcyclegan", "in --out made --direction remove --reference in/0.png", "no reference in direction remove"),
        ("pairedcyclegan", "in --out made --reference words.png", "the reference words.png: not a picture"),
        ("pairedcyclegan", "in --out made --reference no", "--reference must be a file or a folder: there is no no"),
        ("srgan", "in --out made --size 0", "--size must be a side, or HxW, in pixels, as 256 or 256x192, not '0'"),
        ("srgan", "in --out made --size 16x", "not '16x'"),
        ("srgan", "in --out made --white 0", "--white must be at least 1, not 0"),
        ("srgan", "in --out made.tif", "in .png, .jpg, .jpeg or .webp, not 'made.tif'"),
        ("srgan", "in --out words", "--out must be a folder, and 'words' is a file"),
        ("srgan", "in --out made --truth in", "--truth is shown on the sheet: give --sheet FILE, too"),
        ("srgan", "in/0.png --out made.webp --size 4200", "sides of at most 16383 pixels, not 21000x16800: give it a"),
        ("srgan", "in/0.png --out made --size 900000", "pixels take"),
        ("colorization", "in/0.png --out made --hints in/0.png", "transparent where no hint is, not one without alpha"),
        (
            "colorization",
            "in/0.png --out made --hints words.jpg",
            "words.jpg: hints must be lines `x y #rrggbb [size]`",
        ),
        ("colorization", "in/0.png --out made --hints words.json", "words.json: not JSON: Expecting value"),
        (
            "colorization",
            "in/0.png --out made --hints far.txt",
            "must lie in the picture of 50x40 pixels, not at 90, 7",
        ),
        ("context-encoder", "in/0.png --out made --mask mask.png", "as the picture, 50x40 pixels, not 9x9"),
        ("context-encoder", "empty --out made", "there is no picture in empty"),
        ("pairedcyclegan", "one.png --out made --direction remove", "sides of at least 5 pixels, not 1x1"),
        ("srgan", "twelve.png --out made", "nothing says which is white: convert it to 8 bits, or say it (white)"),
    ],
)
def test_says_what_is_wrong(translate, tmp_path, system, words, message):
    for name in "words.png", "words", "words.json":
        (tmp_path / name).write_text("hello")
    (tmp_path / "words.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "far.txt").write_text("90 7 #ff0000")
    (tmp_path / "empty").mkdir()
    gray(tmp_path / "mask.png", 255, (9, 9))
    gray(tmp_path / "one.png", 255, (1, 1))
    Image.fromarray(np.full((20, 20), 4000, np.uint16)).save(tmp_path / "twelve.png")
    code, said = translate(system, words)
    assert code == 2
    assert said.startswith("fastgan: error: ")
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "made").exists()


def test_white(translate, tmp_path):
    Image.fromarray(np.full((20, 20), 4095, np.uint16)).save(tmp_path / "twelve.png")
    assert translate("srgan", "twelve.png --out made.png --white 4095")[0] == 0


def test_a_reason_is_said_once(translate, tmp_path):
    gray(tmp_path / "mask.png", 255, (9, 9))
    code, said = translate("context-encoder", "in --out made --mask mask.png", holes="random")
    assert code == 1
    assert said.count("as large as the picture") == 1
    assert said.count(": the same\n") == 3
    assert "made: 0 pictures translated, 4 left out\n" in said


def test_stopped(translate, tmp_path, monkeypatch):
    system = create("srgan", **SMALL["srgan"])
    calls = []

    def translated(*args, **inputs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return torch.zeros(1, 3, 160, 200)

    monkeypatch.setattr(system, "translate", translated)
    assert translate(system, "in --out made") == (130, "made: 2 of 4 pictures translated, then stopped\n")
    assert len(list((tmp_path / "made").iterdir())) == 2


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_too_little_memory(translate, monkeypatch, error):
    system = create("srgan", **SMALL["srgan"])

    def translated(*args, **inputs):
        raise error

    monkeypatch.setattr(system, "translate", translated)
    code, said = translate(system, "in/0.png --out made.png")
    assert (code, said) == (2, f"fastgan: error: in/0.png: {asked.reason_of(error)}\n")
    assert "not enough memory: give a smaller --size" in said


def test_a_result_that_memory_cannot_hold(translate, monkeypatch):
    monkeypatch.setattr("fastgan.data.readers.free_memory", lambda: 1 << 28)
    code, said = translate("srgan", "in/0.png --out made.png --size 2000")
    assert code == 2
    assert "a result of 10000x8000 pixels takes 0.5 GB of memory, of which 0.3 are free: give a smaller --size" in said
