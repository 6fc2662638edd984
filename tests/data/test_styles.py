"""`styles`: two families of emoji as domains, with the truth of the test part."""

import torch

from fastgan.data import Batches, Images, load
from fastgan.data.emoji import code_points
from fastgan.data.fluent import family, pictures
from fastgan.data.styles import TEST, divided

WANTED = {"a": Images(3, 32, 32), "b": Images(3, 32, 32)}


def test_nothing_is_in_two_parts():
    parts = divided()
    assert [len(part) for part in parts] == [TEST, 578, 578]
    of = [{code_points()[row] for row, _ in part} for part in parts]
    assert [len(points) for points in of] == [len(part) for part in parts]
    assert not of[0] & of[1] | of[0] & of[2] | of[1] & of[2]
    nearly = [{family(pictures()[row][2]) for _, row in part} for part in parts]
    assert not nearly[0] & nearly[1] | nearly[0] & nearly[2] | nearly[1] & nearly[2]


def test_domains():
    data = load("styles").adapted(WANTED)
    assert data.groups == (("a",), ("b",))
    batch = next(Batches(data, 4))
    assert batch.a.shape == batch.b.shape == (4, 3, 32, 32)


def test_rows_of_the_test_part_are_of_one_thing():
    data = load("styles@test").adapted(WANTED)
    assert data.groups == (("a", "b"),)
    assert len(data) == TEST
    a, b = (data.tensors[name].float() for name in "ab")
    distances = torch.cdist(a.flatten(1), b.flatten(1))
    own, others = distances.diag().mean(), (distances.sum() - distances.diag().sum()) / (TEST * (TEST - 1))
    assert own < 0.8 * others
    assert (distances.argmin(1) == torch.arange(TEST)).float().mean() > 0.3
