"""Counts and reads the pictures of a file that holds several.

They are the pages of a TIFF file or a stack, and the frames of an animation. A page is called by
its number, as a frame of a video is.
"""

import os
import threading
from functools import lru_cache
from typing import Any, BinaryIO

from pretrain_jax.data.animation import (
    GIF_MAGICS,
    PNG_MAGIC,
    Animation,
    GifParts,
    Parts,
    PngParts,
)
from pretrain_jax.data.opening import image_of, regular_file, size_and_time, unlimited
from pretrain_jax.data.options import reading
from pretrain_jax.data.tiff import MOST_PAGES, Directories, directories

# Endings of the formats whose pictures are told apart. The further pictures of a JPEG file are
# previews, gain maps or other views, and are left out.
PAGED_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".apng", ".gif", ".webp", ".avif"})
TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ANIMATED_WEBP = 0x02  # among the flags of its header
COUNTS, LISTS = 256, 16
GONE = (-1, -1)


def page_count(path: str) -> int:
    """Count the pictures of a file that are images, without decoding.

    It is 1 where the first picture only is read (see `pretrain_jax.data.options.Reading`), and of a
    file that cannot be read or has more than `MOST_PAGES` pictures, which is found unreadable.

    Args:
        path: a file with one of the endings `PAGED_SUFFIXES`.
    """
    state = _state(path) if reading().pages == "all" else GONE
    count = 1 if state == GONE else _count(path, *state)
    return count if count <= MOST_PAGES else 1


def pages_of_tiff(path: str) -> Directories:
    """Find the pictures of a TIFF file, as `directories` does.

    Raises:
        ValueError: it is no file.
        OSError: it cannot be read.
    """
    return _tiff(path, *_state(path))


def picture(path: str, number: int) -> Any:
    """Return a picture of an animation as it is shown at its time.

    It is a Pillow image. Pictures are made one after the other: the next one takes the shortest
    time.

    Raises:
        ValueError: there is none of that number; or see `opened_image`.
        Exception: whatever decoders raise on damaged files.
    """
    with unlimited:
        return _last.at(path, number)


def count_pictures(file: BinaryIO) -> int:
    """Count the pictures of an opened file.

    The count of more than `MOST_PAGES` is cut short behind that number.

    Raises:
        Exception: whatever decoders raise on damaged files.
    """
    head = file.read(32)
    file.seek(0)
    if head[:4] in TIFF_MAGICS:
        return directories(file).pages
    if (parts := _parts(file, head)) is not None:
        return parts.count
    webp = head[8:16] == b"WEBPVP8X" and len(head) > 20 and head[20] & ANIMATED_WEBP
    if webp or head[4:12] == b"ftypavis":
        with unlimited, image_of(file) as opened:
            return int(opened.n_frames)
    return 1


def _state(path: str) -> tuple[int, int]:
    """Return size and time of a file, by which a changed one is told.

    They are `GONE` of what is none.
    """
    try:
        return size_and_time(path)
    except (OSError, ValueError):
        return GONE


@lru_cache(maxsize=COUNTS)
def _count(path: str, *_: int) -> int:
    try:
        with regular_file(path) as file:
            return count_pictures(file)
    except Exception:  # decoders raise many types on damaged input, which reading says
        return 1


@lru_cache(maxsize=LISTS)
def _tiff(path: str, *_: int) -> Directories:
    with regular_file(path) as file:
        return directories(file)


def _parts(file: BinaryIO, head: bytes) -> Parts | None:
    """Find the parts of an animation that is composed here."""
    if head[:8] == PNG_MAGIC:
        return PngParts(file, MOST_PAGES)
    return GifParts(file, MOST_PAGES) if head[:6] in GIF_MAGICS else None


class _Opened:
    """Keeps an animation open, so that its next picture is near."""

    def __init__(self, path: str) -> None:
        self._file = regular_file(path)
        try:
            parts = _parts(self._file, self._file.read(8))
            self._file.seek(0)
            self.image = image_of(self._file)
        except BaseException:
            self._file.close()
            raise
        self.animation = None if parts is None else Animation(parts)
        self.count = int(getattr(self.image, "n_frames", 1)) if parts is None else parts.count

    def at(self, number: int) -> Any:
        if number >= self.count:
            raise ValueError(f"it holds {self.count} pictures, and none of number {number}")
        if self.animation is not None:
            return self.animation.at(number)
        self.image.seek(number)
        return self.image.copy()

    def tell(self) -> int:
        """Return the number of the last picture."""
        return int((self.animation or self.image).tell())

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


class _Last(threading.local):
    """Keeps the animation that a thread has read last."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._opened: _Opened | None = None

    def at(self, path: str, number: int) -> Any:
        key = (path, *_state(path), os.getpid())  # a file is not shared with a forked process
        opened = self._opened
        if opened is None or key != self._key or number < opened.tell():
            self._opened = None
            opened = _Opened(path)
        self._opened = None  # one that fails is not kept
        found = opened.at(number)
        self._key, self._opened = key, opened
        return found


_last = _Last()
