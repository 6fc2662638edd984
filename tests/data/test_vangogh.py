"""Paintings out of a resource file of Qt, which the test writes as Qt's resource compiler does."""

import io
import struct
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastgan.data import Batches, Images, load
from fastgan.data.sources.qt_resources import read_resources
from fastgan.data.vangogh import FILE, PAINTINGS


def resources(files: dict[str, bytes], version: int = 3, compressed: frozenset[str] = frozenset(), flag: int = 1):
    """A folder `a` with a folder `b` with the files, and one more file beside `b`; the tree first, as Qt has it."""
    names, data = b"", b""
    texts = {}
    for name in ("a", "b", "beside.txt", *files):
        texts[name] = len(names)
        names += struct.pack(">HI", len(name), 12345) + name.encode("utf-16-be")
    later = struct.pack(">Q", 1700000000000) if version > 1 else b""
    nodes = [
        struct.pack(">IHII", 0, 2, 1, 1) + later,
        struct.pack(">IHII", texts["a"], 2, 2, 2) + later,
        struct.pack(">IHII", texts["b"], 2, len(files), 4) + later,
    ]
    for name, content in [("beside.txt", b"beside"), *files.items()]:
        flags = flag if name in compressed else 0
        held = struct.pack(">I", len(content)) + zlib.compress(content) if flags else content
        nodes.append(struct.pack(">IHHHI", texts[name], flags, 0, 1, len(data)) + later)
        data += struct.pack(">I", len(held)) + held
    head = 24 if version > 2 else 20
    tree = b"".join(nodes)
    offsets = (head, head + len(tree), head + len(tree) + len(data))
    return (struct.pack(">4s4I", b"qres", version, *offsets) + bytes(head - 20)) + tree + data + names


def painting(name: str, size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (len(name), 200, 10)).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_reads_what_is_asked_for(tmp_path, version):
    files = {"first.txt": b"one", "ß.txt": b"two" * 100, "other.txt": b"three"}
    (tmp_path / "x.rcc").write_bytes(resources(files, version, frozenset({"ß.txt", "other.txt"})))
    asked = ["first.txt", "ß.txt", "beside.txt", "none.txt"]
    found = read_resources(tmp_path / "x.rcc", asked)
    assert found == {"beside.txt": b"beside", "first.txt": b"one", "ß.txt": b"two" * 100}


def test_says_what_cannot_be_read(tmp_path):
    file = tmp_path / "x.rcc"
    whole = resources({"a.txt": b"one", "b.txt": b"two"}, compressed=frozenset({"a.txt"}), flag=4)
    file.write_bytes(whole)
    assert read_resources(file, ["b.txt"]) == {"b.txt": b"two"}  # others may be as they like
    with pytest.raises(ValueError, match=r"x\.rcc is no resource file .*: it is compressed by Zstandard"):
        read_resources(file, ["a.txt"])
    for content in b"", b"qres", b"nothing of the kind, but long", whole[:60], whole[:-8]:
        file.write_bytes(content)
        with pytest.raises(ValueError, match="is no resource file of Qt"):
            read_resources(file, ["b.txt"])
    with pytest.raises(FileNotFoundError):
        read_resources(tmp_path / "none.rcc", ["b.txt"])


class TestPaintings:
    @pytest.fixture
    def game(self, tmp_path, monkeypatch):
        names = [f"{name}_background.webp" for part in PAINTINGS.values() for name in part]
        files = {name: painting(name, (90 + place, 70)) for place, name in enumerate(names)}
        file = tmp_path / "details.rcc"
        file.write_bytes(resources(files))
        monkeypatch.setenv("FASTGAN_VANGOGH", str(file))
        return file, files

    def test_parts_are_settled(self, game):
        train, test = load("vangogh"), load("vangogh@test")
        assert (len(train), len(test)) == (6, 2)
        assert load("vangogh@train").listing() == train.listing()
        assert train.shape == (3, 70, 70)
        name = "PortraitOfPereTanguy_background.webp"
        row = [path for path, _ in train.listing()].index(name)
        assert train[row][0][:, 5, 5].tolist() == [len(name), 200, 10]

    def test_gives_windows_and_a_domain(self, game):
        wanted = {"image": Images(3, 64, 64, fit="cut")}
        assert next(Batches(load("vangogh").adapted(wanted), 4, workers=0)).image.shape == (4, 3, 64, 64)
        both = load("photos", target="vangogh").adapted({side: Images(3, 32, 32) for side in "ab"})
        batch = next(Batches(both, 2, workers=0))
        assert batch.b.shape == (2, 3, 32, 32)
        assert (batch.b[:, 1, 0, 0] == torch.tensor(200 / 127.5 - 1)).all() or (batch.b[:, 1, 0, 0] == 200).all()

    def test_says_how_to_get_them(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FASTGAN_VANGOGH", str(tmp_path / "none.rcc"))
        with pytest.raises(
            FileNotFoundError, match=r"no .*none.rcc: apt-get install gcompris-qt-data, or set FASTGAN_V"
        ):
            load("vangogh")

    def test_another_file(self, tmp_path, monkeypatch):
        (tmp_path / "x.rcc").write_bytes(resources({"a.txt": b"one"}))
        monkeypatch.setenv("FASTGAN_VANGOGH", str(tmp_path / "x.rcc"))
        with pytest.raises(ValueError, match=r"there is no Eglise_dAuvers-sur-Oise_background\.webp in it"):
            load("vangogh")

    @pytest.mark.skipif(not Path(FILE).is_file(), reason="gcompris-qt-data is not installed")
    def test_of_the_game_itself(self, monkeypatch):
        monkeypatch.delenv("FASTGAN_VANGOGH", raising=False)
        assert load("vangogh").shape[0] == 3
        assert len(load("vangogh@test")) == 2
