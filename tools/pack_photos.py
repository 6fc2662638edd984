"""Pack the embedded data set `photos` from Debian's lomiri-wallpapers-16.04 and from scikit-image.

    apt-get download lomiri-wallpapers-16.04=20.04.0-2
    pip download --no-deps scikit-image==0.26.0
    dpkg -x lomiri-wallpapers-16.04_*.deb from; unzip scikit_image-0.26.0-*.whl -d from
    python tools/pack_photos.py --from from        writes fastgan/data/assets/photos/{train,test}/*.jpg

The bytes depend on Pillow and libjpeg, too.
"""

import argparse
import hashlib
from pathlib import Path

from PIL import Image

ASSETS = Path(__file__).resolve().parent.parent / "fastgan" / "data" / "assets" / "photos"
LONGEST = 768  # pixels
QUALITY = 90
WALLPAPERS, SAMPLES = "usr/share/backgrounds", "skimage/data"

# Part and name here, where it is, and the beginning of its SHA-256. Whole photographs are in one part.
PHOTOS = (
    ("train/fig", WALLPAPERS, "Picture_0B_by_freespace.jpg", "c8c0ab18e48d9e0419fe42881112137f"),
    ("train/brushes", WALLPAPERS, "Picture_1A_by_freespace.jpg", "89e86af38d04daaef975665dc2127e9f"),
    ("train/wine", WALLPAPERS, "Wine_by_Jakkub_Mede.jpg", "d2e96e6d4da40dd804b3d0ce295e94de"),
    ("train/aitzgorri", WALLPAPERS, "aitzgorri_by_Aitzol_Berasategi.jpg", "66268e7b48f8854d36a28765fac6e23e"),
    ("train/friends", WALLPAPERS, "friends_by_Aitzol_Berasategi.jpg", "cc40e313c74e421edffe3403def413c1"),
    ("train/picosdeeuropa", WALLPAPERS, "picosdeeuropa_by_Aitzol_Berasategi.jpg", "414d0072b2f6f2c555deafeaef6e45c4"),
    ("train/seeding", WALLPAPERS, "seeding_by_Clements_Engelhardt.jpg", "a5634d1ab5e41a3568e92d4a894a500c"),
    ("test/life", WALLPAPERS, "life_by_Aitzol_Berasategi.jpg", "4c119350ead80201fe256850c3d31630"),
    ("test/sunset", WALLPAPERS, "sunset_by_Aitzol_Berasategi.jpg", "474dab6a4b9f94dc76c29dfe30e9f5db"),
    ("train/astronaut", SAMPLES, "astronaut.png", "88431cd9653ccd539741b555fb0a46b6"),
    ("train/rocket", SAMPLES, "rocket.jpg", "c2dd0de7c538df8d111e479619b12946"),
    ("test/chelsea", SAMPLES, "chelsea.png", "596aa1e7cb875eb79f437e310381d26b"),
    ("test/coffee", SAMPLES, "coffee.png", "cc02f8ca188b167c775a7101b5d767d1"),
)


def packed(path: Path, sha256: str) -> Image.Image:
    """A photograph of at most LONGEST pixels a side, after making sure that it is the one shipped."""
    if not path.is_file():
        raise SystemExit(f"no {path}: the first lines of this script say where it comes from")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(sha256):
        raise SystemExit(f"{path} has SHA-256 {digest}, not {sha256}...: it is another photograph")
    with Image.open(path) as photo:
        picture = photo.convert("RGB")
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack the embedded data set photos.")
    parser.add_argument("--from", dest="folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    total = 0
    for name, where, file, sha256 in PHOTOS:
        out = arguments.out / f"{name}.jpg"
        out.parent.mkdir(parents=True, exist_ok=True)
        packed(arguments.folder / where / file, sha256).save(out, quality=QUALITY, optimize=True)
        total += out.stat().st_size
    print(f"{len(PHOTOS)} photographs, {total} bytes")


if __name__ == "__main__":
    main()
