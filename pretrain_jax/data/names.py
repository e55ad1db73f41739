"""Tells by names what files are, and which names can be used."""

import os
from collections.abc import Iterator

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".npy", ".avif", ".jp2"}
) | {".apng", ".jpe", ".jfif", ".dib", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"}
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".avi", ".mov", ".mkv", ".mpg", ".mpeg", ".webm"})
SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
# Endings of two parts: the last one alone says little.
DOUBLE_SUFFIXES = (".nii.gz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
LONGEST_SUFFIX = 12


def suffix_of(name: str) -> str:
    """Return the ending of a path in lower case.

    It is that of `Path.suffix`, which is slow for millions of paths.
    """
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if stem and dot and ending else ""


def kind_of(name: str) -> str:
    """Return the ending by which a file that is no image is counted.

    It has two parts where the last one alone says little, and is "" where it is very long: then it
    is no ending, but a part of the name.
    """
    lower = name.lower()
    double = next((one for one in DOUBLE_SUFFIXES if lower.endswith(one)), "")
    suffix = double or suffix_of(name)
    return suffix if len(suffix) <= LONGEST_SUFFIX else ""


def trouble_of(name: str) -> str:
    """Say why a name cannot be used.

    The text is "" where it can.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return (
            f"{os.fsencode(name)!r} is not text in UTF-8, which lists and tables hold; rename the "
            "file"
        )
    if "\t" in name or "\n" in name:
        return f"{name!r} holds a tab or a line break, which image lists cannot; rename the file"
    return ""


def parents_of(path: str) -> Iterator[str]:
    """Return the folders that a path lies in, as it names them, the innermost first."""
    place = path.rfind("/")
    while place > 0:
        yield path[:place]
        place = path.rfind("/", 0, place)
