"""Looks for writing that was burned into an image.

Such writing can be names, dates or device displays.

The search is a heuristic that warns and decides nothing. It looks for rows of small, sharp, bright
shapes of equal height. It misses faint, dark, tilted and very large writing, and rows of highlights
can look like writing to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data import UnreadableImageError, read_pixels
from pretrain_jax.segmentation.leakage import Frame

Bytes = NDArray[np.uint8]

# Shares of the image's height. Glyphs are so high, and strokes are thinner than the window.
GLYPH_HEIGHTS, WINDOW = (0.015, 0.08), 0.02
LEAST_PIXELS = 5  # height of a readable glyph
CONTRAST = 60  # grey levels above the surroundings
FILLED = (0.15, 0.9)  # share of a glyph's box
ROW = 5
MOST = 1000  # images that are looked at: a second each at full size


class _Glyph(NamedTuple):
    """Holds centre row, height, left and right edge of a shape in pixels."""

    centre: float
    height: int
    left: int
    right: int


def longest_row(pixels: Bytes) -> int:
    """Count the shapes in the longest row that looks like writing.

    Shapes are connected parts of the image's white top-hat (brighter than the opening with a
    square of 2 % of the height by 60 grey levels) with the height of glyphs and a box filled by 15
    to 90 %. In a row each follows the one before within one and a half heights, with its centre
    within half a height of that one's, and their heights differ by less than half.

    Args:
        pixels: (H, W, C).
    """
    from scipy.ndimage import find_objects, label, white_tophat

    grey = pixels.mean(axis=2)
    tall = len(grey)
    size = max(3, round(WINDOW * tall)) | 1
    parts, _ = label(white_tophat(grey, size=(size, size)) >= CONTRAST, np.ones((3, 3)))
    low, high = (share * tall for share in GLYPH_HEIGHTS)
    glyphs = []
    for number, (rows, columns) in enumerate(find_objects(parts), 1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        filled = float(np.mean(parts[rows, columns] == number))
        fits = max(low, LEAST_PIXELS) <= height <= high and width <= 2 * height
        if fits and FILLED[0] <= filled <= FILLED[1]:
            centre = (rows.start + rows.stop) / 2
            glyphs.append(_Glyph(centre, height, columns.start, columns.stop))
    glyphs.sort(key=lambda glyph: glyph.left)
    lengths: list[int] = []
    for place, glyph in enumerate(glyphs):
        before = [lengths[other] for other in range(place) if _follows(glyphs[other], glyph)]
        lengths.append(1 + max(before, default=0))
    return max(lengths, default=0)


def frames_with_text(frames: Iterable[Frame]) -> list[str]:
    """Name the frames with a row of at least 5 shapes.

    Unreadable frames are passed over.
    """
    return [frame.name for frame in frames if shows_text(frame)]


def shows_text(frame: Frame) -> bool:
    """Say whether a frame has a row of at least 5 shapes.

    A frame that cannot be read has none.
    """
    try:
        pixels = read_pixels(frame.path, frame.frame, channels=3)
    except UnreadableImageError:
        return False
    return longest_row(pixels.astype(np.uint8, copy=False)) >= ROW


def text_note(found: Sequence[str], looked_at: int, stride: int) -> str:
    """Return a sentence on what a sample shows.

    Args:
        found: names of the images that seem to show writing.
        looked_at: how many images there were.
        stride: every how many images of the source one was taken.
    """
    sample = "all images" if stride == 1 else f"one in {stride} images"
    if not found:
        what = "none seems to show burned-in writing"
    else:
        what = (
            f"{len(found)} seem to show burned-in writing, such as {found[0]}: look at them for "
            "names and dates"
        )
    return f"of {looked_at} image(s) for pre-training ({sample}) {what}"


class Sample:
    """Keeps a few of the frames that pass.

    It keeps at most `MOST`, evenly spread, however many there will be.

    Attributes:
        frames: the sample.
        stride: every how many frames one is in it.
        ungrouped: how many passed without a group.
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.stride = 1
        self.ungrouped = 0

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass the frames on."""
        for number, frame in enumerate(frames):
            if number % self.stride == 0:
                if len(self.frames) == MOST:
                    self.frames, self.stride = self.frames[::2], 2 * self.stride
                if number % self.stride == 0:
                    self.frames.append(frame)
            self.ungrouped += not frame.group
            yield frame


def _follows(first: _Glyph, second: _Glyph) -> bool:
    """Say whether the second shape is the next one of the first one's row."""
    height = min(first.height, second.height)
    apart = second.left - first.right
    return (
        abs(first.centre - second.centre) <= 0.5 * height
        and max(first.height, second.height) < 1.5 * height
        and -0.5 * height <= apart <= 1.5 * height
    )
