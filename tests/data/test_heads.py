"""Rendered heads: the same person bare and made up, eyes that look where they are said to, settled rows."""

import numpy as np
import pytest
import torch

from fastgan.data import Batches, Images, load
from fastgan.data import heads as module
from fastgan.data.faces import look, paint, person, scene
from fastgan.data.rendering import normals, rasterize


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Three rows a part, small, in a cache of the test's own."""
    monkeypatch.setenv("FASTGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "ROWS", {"train": 3, "test": 2})
    draw, draw_eye = module.head, module.eye
    monkeypatch.setattr(module, "head", lambda seed, number, count: draw(seed, number, count, 32))
    monkeypatch.setattr(module, "eye", lambda seed, number, count: draw_eye(seed, number, count, 32))
    return tmp_path


class TestRasterize:
    def test_nearest_of_two_and_weights(self):
        far = [[0.0, 8.0, 0.0], [8.0, 8.0, 0.0], [0.0, 0.0, 0.0]]
        near = [[0.0, 8.0, 1.0], [4.0, 8.0, 1.0], [0.0, 4.0, 1.0]]
        corners = torch.tensor([near, far])
        seen = rasterize(corners, 8)
        assert len(seen.pixel) == len(seen.pixel.unique()) == 36
        where = dict(zip(seen.pixel.tolist(), seen.face.tolist()))
        assert where[7 * 8] == 0
        assert where[7 * 8 + 6] == 1
        assert 7 not in where
        points = (seen.weights[:, :, None] * corners[seen.face]).sum(1)
        assert torch.allclose(points[:, 0], seen.pixel % 8 + 0.5, atol=1e-5)
        assert torch.allclose(points[:, 1], seen.pixel // 8 + 0.5, atol=1e-5)
        assert torch.allclose(points[:, 2], seen.depth, atol=1e-5)

    def test_from_behind(self):
        behind = torch.tensor([[[0.0, 8.0, 0.0], [0.0, 0.0, 0.0], [8.0, 8.0, 0.0]]])
        assert not len(rasterize(behind, 8).pixel)
        assert len(rasterize(behind, 8, front_only=False).pixel) == 36

    def test_beyond_the_picture(self):
        seen = rasterize(torch.tensor([[[-90.0, 90.0, 0.0], [90.0, 90.0, 0.0], [-90.0, -90.0, 0.0]]]), 4)
        assert seen.pixel.max() < 16

    def test_normals_of_a_plane(self):
        plane = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
        found = normals(plane, torch.tensor([[0, 1, 2], [1, 3, 2]]))
        assert torch.allclose(found, torch.tensor([0.0, 0.0, 1.0]).expand(4, 3))


def drawn(number=0, size=64, **changes):
    random = np.random.default_rng([5, number])
    who, where = person(random), scene(random)
    for name, value in changes.items():
        object.__setattr__(where, name, value)
    return paint(who, where, [None, look(random)], size)


def test_make_up_changes_its_regions_alone():
    (bare, made), regions = drawn()
    changed = (bare.int() - made.int()).abs().amax(0)
    inside = regions.amax(0) > 0
    assert changed[~inside].max() <= 1
    for region in regions[:2]:
        assert changed[region > 0].float().mean() > 15
    assert 0.01 < inside.float().mean() < 0.4


def test_the_same_number_is_the_same_picture():
    assert torch.equal(drawn(1)[0], drawn(1)[0])
    assert not torch.equal(drawn(1)[0], drawn(2)[0])


@pytest.mark.parametrize("eye", [1, 2])
def test_the_iris_goes_where_the_gaze_goes(eye):
    def place(gaze):
        random = np.random.default_rng(4)
        who, where = person(random), scene(random)
        object.__setattr__(who, "iris", torch.zeros(3))
        for name, value in {"gaze": gaze, "yaw": 0.0, "pitch": 0.0}.items():
            object.__setattr__(where, name, value)
        middle = paint(who, where, [None], 64, eye)[0][0].float().mean(0)[16:48, 8:56]
        dark = (120 - middle).clamp(min=0)
        line, column = torch.arange(32.0)[:, None], torch.arange(48.0)
        return (dark * column).sum() / dark.sum(), (dark * line).sum() / dark.sum()

    assert place((0.3, 0.0))[0] > place((-0.3, 0.0))[0] + 2
    assert place((0.0, 0.2))[1] < place((0.0, -0.2))[1]


class TestRows:
    def test_fields_and_truth(self, few):
        data = load("heads")
        assert len(data) == 3
        assert set(data.fields) == {"source", "reference", "target", "bare", "lips", "lids", "cheeks", "a", "b"}
        rows = data.rows.tensors
        assert torch.equal(rows["bare"], rows["source"].roll(-1, 0))
        assert not torch.equal(rows["target"], rows["source"])
        outside = (rows["lips"] + rows["lids"] + rows["cheeks"]) == 0
        assert ((rows["target"].int() - rows["source"].int()).abs() * outside).max() <= 1

    def test_parts_have_other_people(self, few):
        train, test = load("heads@train").rows.tensors["source"], load("heads@test").rows.tensors["source"]
        assert len(test) == 2
        assert all(not torch.equal(x, y) for x in train for y in test)

    def test_is_drawn_once(self, few, monkeypatch):
        first = load("heads").rows.tensors["target"]
        monkeypatch.setattr(module, "_drawn", None)
        assert torch.equal(load("heads").rows.tensors["target"], first)

    def test_a_file_cut_short_is_drawn_anew(self, few):
        first = load("heads").rows.tensors["target"]
        (file,) = few.glob("heads-*.npz")
        file.write_bytes(file.read_bytes()[:900])
        assert torch.equal(load("heads").rows.tensors["target"], first)
        assert torch.equal(load("heads").rows.tensors["target"], first)

    def test_domains(self, few):
        data = load("heads").adapted({"a": Images(3, 16, 16), "b": Images(3, 16, 16)})
        assert data.groups == (("a",), ("b",))
        assert next(Batches(data, 1)).b.shape == (1, 3, 16, 16)
        with pytest.raises(ValueError, match="not a or b with source"):
            load("heads").adapted({"a": Images(3, 16, 16), "source": Images(3, 16, 16)})

    def test_batches_of_rows(self, few):
        wanted = {"source": Images(3, 16, 16), "lips": Images(1, 16, 16)}
        batch = next(Batches(load("heads").adapted(wanted), 2))
        assert batch.lips.shape == (2, 1, 16, 16)

    def test_eyes(self, few):
        data = load("eyes")
        assert set(data.fields) == {"image", "vector"}
        assert data.tensors["vector"].shape == (3, 2)
        assert data.tensors["vector"].abs().max() < 0.8
