"""Describes sources of images.

It says what one holds, where outputs may not go, and it keeps lists of images.
"""

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hardset.cli import one_line
from pretrain_jax.data.listing import (
    SHOWN,
    Located,
    Tally,
    image_root,
    iterate_images,
    list_line,
    split_layout,
    video_group,
    write_list,
)
from pretrain_jax.data.opening import size_and_time


class Survey(NamedTuple):
    """Says what a source holds.

    Attributes:
        images: how many.
        digest: sha256 of all names, frames, groups and sizes of files.
        newest: time of the file that was written last, in nanoseconds.
        newest_file: that file.
    """

    images: int
    digest: str
    newest: int
    newest_file: Path


def check_outside(source: str | Path, out: str | Path) -> None:
    """Check that no output goes into a folder of images.

    Raises:
        ValueError: `out` is the folder `source` or lies in it.
    """
    _, place = split_layout(source)
    if place.is_dir() and Path(out).resolve().is_relative_to(place.resolve()):
        raise ValueError(
            f"output folder {out} lies inside the image source {source}, which would then hold the "
            "pipeline's own pictures; name one outside"
        )


def survey(source: str | Path, frame_stride: int = 1, tally: Tally | None = None) -> Survey:
    """Count the images of a source, without reading them.

    Their names and sizes are hashed.

    Args:
        source: see `iterate_images`.
        frame_stride: likewise.
        tally: likewise; with it a file that is missing has the size -1.

    Raises:
        ValueError: see `iterate_images`; a file is listed twice, or missing where there is no
            tally.
    """
    found = hashlib.sha256()
    root = image_root(source)
    # A patch is known by its image's name and frame: no image may be there twice.
    names = array("Q")
    newest, newest_file = 0, root
    missing: list[str] = []
    missed = 0
    for image in iterate_images(source, frame_stride, tally):
        size, written = -1, 0
        try:
            size, written = size_and_time(root / image.name)
        except (OSError, ValueError) as error:
            missed += 1
            if len(missing) < SHOWN:
                missing.append(f"{root / image.name}: {getattr(error, 'strerror', None) or error}")
        # The group that follows from the name says nothing more.
        own = f"\0{image.group}" if image.group != video_group(image.name) else ""
        found.update(f"{image.name}\0{image.frame}\0{size}{own}\n".encode())
        if written > newest:
            newest, newest_file = written, root / image.name
        names.append(_number_of(image))
    if missed and tally is None:
        more = f"; and {missed - SHOWN} more" if missed > SHOWN else ""
        raise ValueError(
            f"{missed} image(s) of {source} cannot be read: {'; '.join(missing)}{more}"
        )
    different, counts = np.unique(names, return_counts=True)
    if len(different) < len(names):
        twice = set(different[counts > 1].tolist())
        first = next(
            image
            for image in iterate_images(source, frame_stride, Tally())
            if _number_of(image) in twice
        )
        raise ValueError(
            f"image list {source} names an image more than once: {one_line(first.name)}"
        )
    return Survey(len(names), found.hexdigest(), newest, newest_file)


def _number_of(image: Located) -> int:
    """Return one number for an image's place and frame, the same in every process."""
    place = os.path.normpath(image.name)
    name = hashlib.sha256(f"{place}\0{image.frame}".encode()).digest()
    return int.from_bytes(name[:8], "big")


def keep_list(path: Path, names: Callable[[], Iterable[str]]) -> bool:
    """Write an image list unless it is there and says the same.

    The list is never held as a whole.

    A list that is lost or changed is mended so, and one of the place where a folder lay before.

    Args:
        path: the list.
        names: gives the paths of the images, relative to the list's folder.

    Returns:
        Whether it was written.
    """
    if _says(path, map(list_line, names())):
        return False
    write_list(path, map(list_line, names()))
    return True


def _says(path: Path, lines: Iterable[str]) -> bool:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            return all(own == line for own, line in zip_longest(file, lines))
    except (OSError, UnicodeDecodeError):
        return False
