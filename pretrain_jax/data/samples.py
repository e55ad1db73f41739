"""Converts the samples of decoded images.

They are taken a few rows at a time, so that the memory between is bounded.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.opening import Remark
from pretrain_jax.data.options import FEWEST_BITS, WHOLE_BITS, reading

Samples = NDArray[Any]
VALUES = 1 << 22  # of a piece that is converted at once
WHOLE = 2**WHOLE_BITS - 1
TWELVE_BITS = 4096


def by_rows(pixels: Samples, convert: Any, channels: int, kind: Any) -> Samples:
    """Convert an image (H, W, C) a few rows at a time.

    So the memory between is bounded.
    """
    height, width = pixels.shape[:2]
    found = np.empty((height, width, channels), kind)
    step = max(1, VALUES // max(1, width * pixels.shape[2]))
    for top in range(0, height, step):
        found[top : top + step] = convert(pixels[top : top + step])
    return found


def turned(pixels: Samples, orientation: int) -> Samples:
    """Turn pixels (H, W, ...) as they are displayed.

    The orientation is a number from 1 to 8 of EXIF and TIFF.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def largest_sample(held: int, stated: int | None, remarks: list[Remark]) -> int:
    """Return the value of 16-bit samples that stands for 1.

    The file tells it, else the option --bits. It is 65535 where neither does, and an image that
    hardly uses its range is remarked then. A file whose samples exceed what it says is not
    believed.

    Args:
        held: the largest sample of the image.
        stated: bits that the file says are used.
        remarks: gets what is to be noticed.

    Raises:
        ValueError: a sample exceeds what the option says.
    """
    if stated is not None and held < 2**stated:
        return 2**stated - 1
    bits = reading().bits
    if bits is None:
        if 0 < held < TWELVE_BITS:
            remarks.append(dark_remark(held))
        return WHOLE
    if held >= 2**bits:
        raise ValueError(
            f"it holds the value {held}, and --bits {bits} says that values end at {2**bits - 1}; "
            f"give the bits that all images have, {FEWEST_BITS} to {WHOLE_BITS}, or none"
        )
    return 2**bits - 1


def dark_remark(held: int) -> Remark:
    """Remark that an image of 16 bits is nearly black.

    Its values end at `held`.
    """
    bits = int(held).bit_length()
    return Remark("dark", f"has 16 bits a sample, of which it uses {bits} (up to {held})")


def filled(pixels: Samples, remarks: list[Remark]) -> Samples:
    """Stretch 16-bit pixels, of a file that does not say how many bits it uses.

    See `largest_sample`, which raises the ValueError of samples that are too large.
    """
    top = largest_sample(int(pixels.max(initial=0)), None, remarks)
    if top == WHOLE:
        return pixels
    flat = pixels if pixels.ndim == 3 else pixels[:, :, None]

    def stretch(part: Samples) -> Samples:
        return (part * np.uint32(WHOLE) + np.uint32(top // 2)) // np.uint32(top)

    return by_rows(flat, stretch, flat.shape[2], np.uint16).reshape(pixels.shape)
