"""Images and parts of them at the size that is needed, eight bits a channel."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data import read_pixels
from pretrain_jax.data.sources import STILL
from pretrain_jax.data.transforms import resized

__all__ = ["Box", "cut", "patch_id", "read_image"]

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


def read_image(root: Path, name: str, frame: int = STILL, channels: int = 3) -> Pixels:
    """An image of an index, shape (H, W, channels).

    Raises:
        UnreadableImageError: it cannot be decoded.
        BadPixelsError: NaN, infinite or out-of-range pixels.
    """
    return read_pixels(str(root / name), frame, channels=channels).astype(np.uint8)


def cut(pixels: Pixels, box: Box, size: tuple[int, int]) -> Pixels:
    """A part of an image at another size, bicubic with antialiasing; nothing around it counts.

    Args:
        pixels: (H, W, C).
        box: top, left, height, width.
        size: height and width of the result.

    Returns:
        Shape (*size, C).
    """
    top, left, height, width = box
    part = pixels[top : top + height, left : left + width]
    if part.shape[:2] == size:
        return part
    return resized(part, size, (0, 0, width, height)).astype(np.uint8, copy=False)


def patch_id(name: str, frame: int, box: Box, proposer: str) -> int:
    """The first 63 bits of sha256 of where a patch lies and who proposed it: a stable number."""
    top, left, height, width = box
    text = f"{name}\0{frame}\0{top},{left},{height},{width}\0{proposer}"
    found = hashlib.sha256(text.encode()).digest()[:8]
    return int.from_bytes(found, "big") >> 1
