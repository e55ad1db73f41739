"""Puts pictures into a page itself, so that it needs no other file."""

import io
from dataclasses import dataclass
from pathlib import Path

from pretrain_jax.report import charts

LARGEST_SIDE = 960  # pixels; larger pictures are shown smaller
LARGEST_BYTES = 100_000
QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """Holds a picture of the page.

    Attributes:
        source: address that holds it in itself.
        caption: what it shows, and of which stage.
        alt: what it shows, for those who do not see it.
    """

    source: str
    caption: str
    alt: str


def sheet(path: Path, caption: str) -> Picture:
    """Read the contact sheet of a file."""
    return Picture(_address(path), caption, f"Contact sheet, {caption}")


def _address(path: Path) -> str:
    """Encode a picture as an address.

    It is at most LARGEST_SIDE wide and high. Large pictures become JPEG.
    """
    from PIL import Image

    data, media = path.read_bytes(), "image/png"
    with Image.open(path, formats=["PNG"]) as image:
        if len(data) > LARGEST_BYTES or max(image.size) > LARGEST_SIDE:
            shown = image.convert("RGB")
            shown.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
            buffer = io.BytesIO()
            shown.save(buffer, format="JPEG", quality=QUALITY)
            data, media = buffer.getvalue(), "image/jpeg"
    return charts.data_address(data, media)
