"""Heads as they are painted: a person, a look, a scene, and the pictures of the same person bare and made up.

The mesh is MakeHuman's head (tools/pack_heads.py, licence in assets/LICENSE-heads.txt). What is painted on it is a
function of where a point lies on the unchanged mesh, so that it follows every morph: brows, hair and make-up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fastgan.data.rendering import normals, rasterize

ASSET = Path(__file__).parent / "assets/heads.npz"
SAMPLES = 2  # a side of each pixel
EYE = (0.308, 7.284)  # of the unchanged mesh: how far aside and how high an eye's center is
LASH = 3  # the part of lashes; 0 is skin, 1 and 2 the eyeballs


@dataclass(frozen=True)
class Person:
    """What stays when the pose changes."""

    morphs: Tensor  # (M,) weights
    skin: Tensor  # (3,) in [0, 1], as all colors here
    hair: Tensor  # (3,)
    iris: Tensor  # (3,)
    long: bool  # hair
    brow: float  # how dark
    line: float  # how low the hairline is
    grain: int  # seed of the skin's texture


@dataclass(frozen=True)
class Look:
    """Make-up: colors (3,), and how much of each, 0 to 1."""

    lips: Tensor
    lip: float
    gloss: float
    shadow: Tensor
    lid: float
    blush: Tensor
    cheek: float
    liner: float


@dataclass(frozen=True)
class Scene:
    """Pose, light and background."""

    yaw: float  # radians, to the picture's right
    pitch: float  # upwards
    gaze: tuple[float, float]  # of the eyes in the head, radians: to the picture's right, upwards
    light: Tensor  # (3,) where it comes from
    warmth: float
    background: Tensor  # (2, 3) top and bottom
    shirt: Tensor  # (3,)

    def looking(self) -> Tensor:
        """(3,) the unit vector of the gaze: to the picture's right, upwards, towards the viewer."""
        return _turn(self.yaw, self.pitch) @ _turn(*self.gaze) @ torch.tensor([0.0, 0.0, 1.0])


class Mesh(NamedTuple):
    """See tools/pack_heads.py."""

    positions: Tensor
    position: Tensor
    uv: Tensor
    faces: Tensor
    parts: Tensor
    masks: Tensor  # (1, 4, 512, 512): lips, lids, face, noise
    names: list[str]
    moved: Tensor  # (R,) the vertices that morphs move
    by: Tensor  # (R, 3)
    morph: Tensor  # (R,) which morph each row is of


@cache
def mesh() -> Mesh:
    with np.load(ASSET) as file:
        arrays = {name: file[name] for name in file.files}
    numbers = {
        name: torch.from_numpy(arrays[name].astype(np.int64)) for name in ("position", "faces", "parts", "moved")
    }
    starts = torch.from_numpy(arrays["starts"].astype(np.int64))
    morph = torch.repeat_interleave(torch.arange(len(starts) - 1), starts.diff())
    by = torch.from_numpy(arrays["by"]).float() * torch.from_numpy(arrays["scales"])[morph][:, None]
    noise = torch.rand(512, 512, generator=torch.Generator().manual_seed(0))
    masks = torch.stack([*(torch.from_numpy(arrays[n]).float() / 248 for n in ("lips", "eyelids", "face")), noise])
    positions, uv = (torch.from_numpy(arrays[name]) for name in ("positions", "uv"))
    named = numbers["position"], uv, numbers["faces"], numbers["parts"], masks[None], list(map(str, arrays["names"]))
    return Mesh(positions, *named, numbers["moved"], by, morph)


def person(random: np.random.Generator) -> Person:
    """A new one. Ancestry, sex and a few morphs of each part of the face are drawn."""
    names = mesh().names
    share = random.random(3) ** 2 + 1e-3
    share /= share.sum()
    female = bool(random.random() < 0.65)
    weights = np.zeros(len(names))
    for race, part in zip(("african", "asian", "caucasian"), share):
        weights[names.index(f"macrodetails/{race}-{'female' if female else 'male'}-young")] = part
    for folder in ("head", "nose", "mouth", "cheek", "chin", "forehead", "ears"):
        own = [i for i, name in enumerate(names) if name.startswith(folder + "/") and "/r-" not in name]
        for i in random.choice(own, min(3, len(own)), replace=False):
            _both_sides(weights, names, int(i), random.uniform(0, 0.45))
    for i in random.choice([i for i, name in enumerate(names) if name.startswith("eyes/l-")], 3, replace=False):
        _both_sides(weights, names, int(i), random.uniform(0, 0.4))
    tones = np.array([[0.47, 0.31, 0.23], [0.92, 0.75, 0.61], [0.95, 0.78, 0.69]])
    skin = share @ tones + random.normal(0, 0.02, 3)
    fair = share[2] > 0.45
    hairs = [(0.07, 0.05, 0.045), (0.16, 0.1, 0.07)]
    eyes = [(0.27, 0.16, 0.09), (0.36, 0.22, 0.1)]
    if fair:
        hairs += [(0.36, 0.23, 0.13), (0.6, 0.45, 0.27), (0.4, 0.17, 0.09)]
        eyes += [(0.3, 0.45, 0.6), (0.33, 0.45, 0.3)]
    return Person(
        torch.from_numpy(weights).float(), _color(skin), _color(hairs[random.integers(len(hairs))]),
        _color(eyes[random.integers(len(eyes))]), female and bool(random.random() < 0.8), random.uniform(0.5, 0.9),
        random.uniform(-0.06, 0.08), int(random.integers(1 << 30)),
    )  # fmt: skip


def look(random: np.random.Generator) -> Look:
    """Make-up that is seen: of lips, lids and cheeks, and a liner."""
    lips = [
        (0.72, 0.05, 0.12),
        (0.5, 0.05, 0.2),
        (0.85, 0.25, 0.38),
        (0.8, 0.33, 0.25),
        (0.4, 0.1, 0.12),
        (0.78, 0.1, 0.42),
    ]
    lids = [
        (0.38, 0.2, 0.48),
        (0.18, 0.34, 0.55),
        (0.55, 0.3, 0.2),
        (0.2, 0.42, 0.38),
        (0.7, 0.45, 0.25),
        (0.25, 0.2, 0.22),
    ]
    lip, lid = lips[random.integers(len(lips))], lids[random.integers(len(lids))]
    return Look(
        _color(np.array(lip) + random.normal(0, 0.03, 3)), random.uniform(0.65, 0.95), random.uniform(0, 1),
        _color(np.array(lid) + random.normal(0, 0.03, 3)), random.uniform(0.45, 0.85),
        _color(np.array((0.85, 0.36, 0.36)) + random.normal(0, 0.03, 3)), random.uniform(0.1, 0.4),
        random.uniform(0.2, 1),
    )  # fmt: skip


def scene(random: np.random.Generator, turned: float = 0.4) -> Scene:
    base = random.uniform(0.35, 0.85, 3)
    return Scene(
        random.uniform(-turned, turned), random.uniform(-0.15, 0.12),
        (random.uniform(-0.3, 0.3), random.uniform(-0.15, 0.15)),
        torch.tensor([random.uniform(-0.9, 0.9), random.uniform(-0.1, 0.9), 1.0]), random.uniform(-0.03, 0.05),
        torch.stack([_color(base), _color(base * random.uniform(0.6, 1))]), _color(random.uniform(0.15, 0.8, 3)),
    )  # fmt: skip


def paint(
    who: Person, where: Scene, looks: Sequence[Look | None], size: int = 128, eye: int | None = None
) -> tuple[Tensor, Tensor]:
    """Pictures of one person in one scene, one for each of the looks (None: bare), alike but for the make-up.

    eye: only this one (1: on the picture's right, 2: on its left) is shown.
    ->  (L, 3, size, size) uint8; (3, size, size) uint8, 255 where make-up can be: of lips, of lids, lashes and liner,
        and of cheeks.
    """
    view = _View(who, where, size * SAMPLES, eye)
    pictures = torch.stack([view.shaded(each) for each in looks])
    both = torch.cat([pictures, view.regions()[None]]).clamp(0, 1)
    shown = F.avg_pool2d(both, SAMPLES).mul(255).round().to(torch.uint8)
    return shown[:-1], (shown[-1] > 0).to(torch.uint8) * 255


class _View:
    """A person in a scene, as far as it is the same for every look."""

    def __init__(self, who: Person, where: Scene, side: int, eye: int | None) -> None:
        self.who, self.where, self.side = who, where, side
        shape = mesh()
        rest = shape.positions
        share = who.morphs[shape.morph]
        used = share.nonzero()[:, 0]
        moved = rest.index_add(0, shape.moved[used], shape.by[used] * share[used, None])
        faces = shape.position[shape.faces]
        skin = shape.parts == 0
        moved = moved + 0.12 * _hair(rest, who.line, 0.4)[:, None] * normals(moved, faces[skin])
        centers = torch.stack([moved[faces[shape.parts == part].unique()].mean(0) for part in (1, 2)])
        apart = (centers[0, 0] - centers[1, 0]).abs()
        turn = _turn(where.yaw, where.pitch)
        if eye is None:
            middle, half = centers.mean(0) - torch.tensor([0.0, 0.2, 0.3]) * apart, 1.75 * apart
        else:
            middle, half = centers[eye - 1], 0.42 * apart
        turned = (moved - middle) @ turn.T
        self.eyes = (centers - middle) @ turn.T
        self.looking = where.looking()
        on_screen = torch.stack([turned[:, 0] / half + 1, 1 - turned[:, 1] / half, turned[:, 2] / half], 1)
        on_screen = on_screen * (side / 2)
        smooth = normals(turned, faces)
        solid = (shape.parts != LASH).nonzero()[:, 0]
        seen = rasterize(on_screen[faces[solid]], side)
        face = solid[seen.face]
        self.pixel, self.part = seen.pixel, shape.parts[face]

        # All that is interpolated, at the corners of triangles: in the unchanged mesh, where it is, normal, texture.
        known = torch.cat([torch.cat([rest, turned, smooth], 1)[shape.position], shape.uv], 1)
        values = torch.bmm(seen.weights[:, None], known[shape.faces[face]])[:, 0]
        self.rest, self.at, normal, uv = values.split([3, 3, 3, 2], 1)
        self.normal = F.normalize(normal, dim=1)
        self.masks = _sampled(shape.masks, uv) * (self.part == 0)
        self.noise = _sampled(shape.masks[:, 3:], uv * 3.1 + who.grain % 997 / 997)[0] - 0.5
        lashes = (shape.parts == LASH).nonzero()[:, 0]
        thin = rasterize(on_screen[faces[lashes]], side, front_only=False)
        front = torch.full((side * side,), -torch.inf)
        front[seen.pixel] = seen.depth
        visible = (thin.depth > front[thin.pixel] - 0.02 * side).nonzero()[:, 0]
        self.lash = thin.pixel[visible]
        place = (rest[faces[lashes[thin.face[visible]]]] * thin.weights[visible][..., None]).sum(1)
        angle = torch.atan2(place[:, 1] - EYE[1], place[:, 0].abs() - EYE[0])
        self.lash_strength = (0.5 + 0.5 * torch.sin(angle * 34)) * torch.where(place[:, 1] > EYE[1] - 0.02, 1.0, 0.35)
        self.background = self._background(middle[1], half)
        self._lit()

    def _background(self, height: Tensor, half: Tensor) -> Tensor:
        """(side * side, 3), with long hair behind the head."""
        line = torch.linspace(-1, 1, self.side)
        y, x = torch.meshgrid(line, line, indexing="ij")
        mixed = ((y + 1) / 2)[..., None]
        back = self.where.background[0] * (1 - mixed) + self.where.background[1] * mixed
        if self.who.long:
            x = x + 0.12 * self.where.yaw
            wide = 0.66 + 0.06 * torch.sin(y * 4 + self.who.grain % 7) + 0.08 * (y > 0) * y
            inside = torch.where(y < -0.2, (x / 0.66) ** 2 + ((y + 0.2) / 0.82) ** 2 < 1, x.abs() < wide)
            strand = 0.72 + 0.16 * torch.sin(x * 60 + 3 * torch.sin(y * 3)) * torch.sin(x * 23 + y * 2)
            back = torch.where((inside & (y < 0.95))[..., None], self.who.hair * strand[..., None], back)
        return back.reshape(-1, 3)

    def _lit(self) -> None:
        light = F.normalize(self.where.light, dim=0)
        facing = self.normal @ light
        self.diffuse = (0.45 + 0.55 * facing).clamp(min=0) ** 1.3
        self.glance = (self.normal @ F.normalize(light + torch.tensor([0.0, 0.0, 1.0]), dim=0)).clamp(min=0)
        self.tint = torch.tensor([1 + self.where.warmth, 1.0, 1 - self.where.warmth])
        # Under brows, nose, lip and chin less light of the sky arrives.
        self.sky = 0.85 + 0.15 * self.normal[:, 1]
        self.hair = _hair(self.rest, self.who.line) * (self.part == 0)
        self.brow = _brow(self.rest) * (self.part == 0)

    def regions(self) -> Tensor:
        """(3, side, side): where each kind of make-up can be."""
        covered = torch.zeros(self.side**2, 3)
        lip, lid, cheek, liner = self._places()
        covered[self.pixel] = torch.stack([lip > 0.02, (lid > 0.02) | (liner > 0.02), cheek > 0.02], 1).float()
        covered[self.lash, 1] = 1.0
        return covered.T.view(3, self.side, self.side)

    def _places(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        aside, high = self.rest[:, 0].abs() - EYE[0], self.rest[:, 1] - EYE[1]
        skin = (self.part == 0) * (1 - self.hair)
        lid = self.masks[1] * skin * ((high > -0.03) & (self.rest[:, 2] > 1.1)) * (1 - self.brow)
        front = self.rest[:, 2] > 0.7
        cheek = torch.exp(-(((aside - 0.2) / 0.22) ** 2) - ((high + 0.42) / 0.16) ** 2) * skin * front * (
            1 - self.masks[0])  # fmt: skip
        edge = ((aside / 0.19) ** 2 + (high / 0.085) ** 2).sqrt()
        liner = torch.exp(-(((edge - 1.0) / 0.22) ** 2)) * (high > -0.01) * skin * (self.rest[:, 2] > 1.1)
        return self.masks[0] * skin, lid, cheek, liner

    def shaded(self, made: Look | None) -> Tensor:
        """(3, side, side)"""
        who = self.who
        lip, lid, cheek, liner = self._places()
        nose = torch.exp(-((self.rest[:, 0] / 0.16) ** 2) - ((self.rest[:, 1] - 6.98) / 0.14) ** 2)
        ruddy = (0.25 * nose + 0.25 * cheek + 0.15 * lid)[:, None]
        color = who.skin * (1 + 0.09 * self.noise[:, None] + 0.05 * (self.masks[2][:, None] - 0.5))
        color = color * (1 - ruddy * torch.tensor([0.02, 0.16, 0.16]))
        color = torch.lerp(color, who.skin * torch.tensor([0.88, 0.6, 0.6]), 0.85 * lip[:, None])
        shine = 0.10 * self.glance**18
        if made is not None:
            color = torch.lerp(color, made.blush.expand_as(color), made.cheek * cheek[:, None])
            color = torch.lerp(color, made.shadow.expand_as(color), made.lid * lid[:, None])
            color = torch.lerp(color, torch.full_like(color, 0.05), 0.85 * made.liner * liner[:, None])
            color = torch.lerp(color, made.lips.expand_as(color), made.lip * lip[:, None])
            shine = shine + made.gloss * 0.35 * lip * self.glance**24
        strand = 0.8 + 0.5 * self.noise + 0.2 * torch.sin(
            torch.atan2(self.rest[:, 0], self.rest[:, 2] + 0.3) * 70 + 2 * torch.sin(self.rest[:, 1] * 9))  # fmt: skip
        color = torch.lerp(color, who.hair * strand[:, None], self.hair[:, None])
        hairs = who.brow * self.brow * (0.75 + 0.25 * torch.sin(self.rest[:, 0] * 90 + self.rest[:, 1] * 60))
        color = torch.lerp(color, (who.hair * 0.8).expand_as(color), hairs[:, None])
        shirt = ((6.02 - self.rest[:, 1] - 0.25 * self.rest[:, 0].abs()) / 0.03).clamp(0, 1) * (self.part == 0)
        color = torch.lerp(color, self.where.shirt.expand_as(color), shirt[:, None])
        shine = shine * (1 - 0.7 * self.hair) * (1 - shirt)
        lit = (0.34 * self.sky + 0.74 * self.diffuse)[:, None] * color * self.tint + shine[:, None]
        lit = self._eyes(lit)
        picture = self.background.clone()
        picture[self.pixel] = lit
        strong = 0.75 if made is None else 0.75 + 0.25 * made.liner
        alpha = (strong * self.lash_strength)[:, None]
        picture[self.lash] = torch.lerp(picture[self.lash], torch.full((1, 3), 0.06), alpha)
        return picture.T.view(3, self.side, self.side)

    def _eyes(self, lit: Tensor) -> Tensor:
        lit = lit.clone()
        for number in (1, 2):
            mine = (self.part == number).nonzero()[:, 0]
            way = F.normalize(self.at[mine] - self.eyes[number - 1], dim=1)
            angle = torch.arccos((way @ self.looking).clamp(-1, 1))[:, None]
            around = torch.atan2(way[:, 1] - self.looking[1], way[:, 0] - self.looking[0])[:, None]
            streaks = 0.85 + 0.15 * torch.sin(around * 23) * torch.sin(around * 7)
            iris = self.who.iris * streaks * (0.65 + 0.6 * (angle / 0.5))
            color = torch.lerp(
                iris, torch.tensor([0.93, 0.9, 0.89]).expand_as(iris), ((angle - 0.47) / 0.05).clamp(0, 1)
            )
            rim = torch.exp(-(((angle - 0.48) / 0.05) ** 2))
            color = color * (1 - 0.6 * rim)
            color = torch.lerp(color, torch.full_like(color, 0.02), ((0.21 - angle) / 0.04).clamp(0, 1))
            under = ((self.rest[mine, 1] - EYE[1]) / 0.1).clamp(0, 1)[:, None]  # the shade of the upper lid
            light = (0.45 + 0.5 * self.diffuse[mine])[:, None] * (1 - 0.4 * under)
            lit[mine] = color * light * self.tint + 0.8 * (self.glance[mine] ** 140)[:, None]
        return lit


def _both_sides(weights: np.ndarray, names: list[str], i: int, weight: float) -> None:
    weights[i] = weight
    other = names[i].replace("/l-", "/r-")
    if other in names:
        weights[names.index(other)] = weight


def _color(values: object) -> Tensor:
    return torch.tensor(np.clip(np.asarray(values, dtype=np.float64), 0.02, 0.98), dtype=torch.float32)


def _turn(yaw: float, pitch: float) -> Tensor:
    """(3, 3): first up by pitch, then to the picture's right by yaw."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    about_y = torch.tensor([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    return about_y @ torch.tensor([[1.0, 0.0, 0.0], [0.0, cp, sp], [0.0, -sp, cp]])


def _sampled(textures: Tensor, uv: Tensor) -> Tensor:
    """(1, C, H, W) at (P, 2) -> (C, P), repeated beyond its borders."""
    uv = uv - uv.floor()
    grid = torch.stack([uv[:, 0] * 2 - 1, 1 - uv[:, 1] * 2], 1)
    return F.grid_sample(textures, grid[None, None], align_corners=False, padding_mode="border")[0, :, 0]


def _hair(rest: Tensor, line: float, soft: float = 0.07) -> Tensor:
    """(P,) how much a point of the unchanged head is below hair, 0 to 1."""
    x, y, z = rest.unbind(1)
    front = 7.95 - line + 0.1 * x.abs() - 0.9 * (x.abs() - 0.5).clamp(min=0)
    height = torch.lerp(torch.full_like(front, 6.75), front, ((z - 0.1) / 0.75).clamp(0, 1))
    ear = ((x.abs() > 0.62) & (y > 6.7) & (y < 7.35) & (z > 0.0) & (z < 0.75)).float()
    return ((y - height) / soft).clamp(0, 1) * (1 - ear)


def _brow(rest: Tensor) -> Tensor:
    x, y, z = rest[:, 0].abs(), rest[:, 1], rest[:, 2]
    along = (x - 0.13) / 0.42
    middle = EYE[1] + 0.2 + 0.07 * torch.sin(along.clamp(0, 1.3) * 2.4)
    thick = 0.035 * (1 - 0.6 * along.clamp(0, 1))
    ends = (along * 8).clamp(0, 1) * ((1.05 - along) * 6).clamp(0, 1)
    return torch.exp(-(((y - middle) / thick) ** 2)) * ends * (z > 0.9)
