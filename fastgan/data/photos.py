"""`photos`: 13 photographs of up to 768 pixels a side; whole photographs are in the training part or in the test part.

Packed by tools/pack_photos.py; who made them and their licences are in assets/LICENSE-photos.txt.
"""

from pathlib import Path

from fastgan.data.sources.files import Files
from fastgan.data.sources.parts import TRAIN

PHOTOS = Path(__file__).parent / "assets" / "photos"


def photos(part: str) -> Files:
    """`image`: 9 photographs of the training part, or 4 of the test part."""
    root = PHOTOS / part
    return Files("photos" if part == TRAIN else f"photos@{part}", str(root), sorted(p.name for p in root.glob("*.jpg")))
