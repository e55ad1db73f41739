"""Counts and reads the pictures of a file that holds several.

They are the pages of a TIFF file or a stack, and the frames of an animation. A page is called by
its number, as a frame of a video is.
"""

import os
import threading
from functools import lru_cache
from typing import Any, BinaryIO

from pretrain_jax.data.opening import image_of, regular_file, size_and_time, unlimited
from pretrain_jax.data.options import reading
from pretrain_jax.data.tiff import MOST_PAGES, Directories, directories

# Endings of the formats whose pictures are told apart. The further pictures of a JPEG file are
# previews, gain maps or other views, and are left out.
PAGED_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".apng", ".gif", ".webp", ".avif"})
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
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
    if head[:8] == PNG_MAGIC:
        return _of_png(file)
    if head[:3] == b"GIF":
        return _of_gif(file)
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


def _of_png(file: BinaryIO) -> int:
    """Count the pictures of a PNG file by its chunks (PNG, third edition, section 11.3.6)."""
    file.seek(8)
    announced = found = 0
    alone = 0  # a picture before the animation, for programs that show none
    while len(head := file.read(8)) == 8 and found <= MOST_PAGES:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"acTL":
            announced = int.from_bytes(file.read(4), "big")
            length -= 4
        elif kind == b"fcTL":
            found += 1
        elif kind == b"IDAT":
            if not announced:
                return 1
            alone = alone or int(not found)
        elif kind == b"IEND":
            break
        file.seek(length + 4, os.SEEK_CUR)
    return max(1, min(announced, found) + alone)


def _of_gif(file: BinaryIO) -> int:
    """Count the pictures of a GIF file by its blocks (GIF89a, appendix A).

    Pillow's count goes on to the end of the file, however many there are.
    """
    flags = file.read(13)[10]
    file.seek(_table(flags), os.SEEK_CUR)
    found = strays = 0
    while found + strays <= MOST_PAGES:
        kind = file.read(1)
        if kind == b",":
            found += 1
            described = file.read(9)
            if len(described) < 9:
                break
            file.seek(_table(described[8]) + 1, os.SEEK_CUR)
        elif kind == b"!":
            file.seek(1, os.SEEK_CUR)
        elif kind in (b";", b""):
            break
        else:  # Pillow, too, looks for the next block
            strays += 1
            continue
        while size := file.read(1):
            if size == b"\0":
                break
            file.seek(size[0], os.SEEK_CUR)
    return max(1, found)


def _table(flags: int) -> int:
    """Return the bytes of the table of colours that flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


class _Last(threading.local):
    """Keeps the animation open that a thread has read last.

    The next picture of it is made from the one before.
    """

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._file: BinaryIO | None = None
        self._opened: Any = None

    def at(self, path: str, number: int) -> Any:
        key = (path, *_state(path), os.getpid())  # a file is not shared with a forked process
        try:
            if key != self._key or number < self._opened.tell():
                self._close()
                self._file = regular_file(path)
                self._opened, self._key = image_of(self._file), key
            if number >= getattr(self._opened, "n_frames", 1):
                raise ValueError(
                    f"it holds {self._opened.n_frames} pictures, none of number {number}"
                )
            self._opened.seek(number)
            return self._opened.copy()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._key, self._file, self._opened = (), None, None


_last = _Last()
