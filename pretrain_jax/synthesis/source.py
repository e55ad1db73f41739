"""The images of a source one after another: no list of them is ever held."""

import hashlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pretrain_jax.data.sources import IMAGE_SUFFIXES, LIST_SUFFIXES, STILL
from pretrain_jax.data.video import VIDEO_SUFFIXES, frame_times

__all__ = ["Located", "Survey", "check_outside", "image_root", "iterate_images", "survey"]

SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


class Located(NamedTuple):
    """An image of a source.

    Attributes:
        name: of its file relative to the source's root, with / between folders.
        frame: number of the frame in a video, -1 for a still image.
        frames: how many frames the video holds, 1 for a still image.
    """

    name: str
    frame: int
    frames: int


class Survey(NamedTuple):
    """What a source holds.

    Attributes:
        images: how many.
        digest: sha256 of all names, frames and sizes of files.
        newest: time of the file that was written last, in nanoseconds.
        newest_file: that file.
    """

    images: int
    digest: str
    newest: int
    newest_file: Path


def image_root(source: Path) -> Path:
    """The folder to which the names of a source's images are relative."""
    return source if source.is_dir() else source.parent


def check_outside(source: str | Path, out: str | Path) -> None:
    """Check that no output goes into a folder of images.

    Raises:
        ValueError: `out` is the folder `source` or lies in it.
    """
    place = Path(source)
    if place.is_dir() and Path(out).resolve().is_relative_to(place.resolve()):
        raise ValueError(
            f"output folder {out} lies inside the image source {source}, which would then hold the "
            "pipeline's own pictures; name one outside"
        )


def iterate_images(source: Path, frame_stride: int = 1) -> Iterator[Located]:
    """The images of a source in the order of `pretrain_jax.data.find_images`.

    Args:
        source: a folder (searched recursively), an image list, an image or a video.
        frame_stride: every how many frames of a video are taken.

    Raises:
        ValueError: the source does not exist, is of an unknown kind, or a line of the list is.
    """
    for name in _names(source):
        if Path(name).suffix.lower() in VIDEO_SUFFIXES:
            # A video that cannot be read counts as one image, which is found unreadable.
            frames = max(1, len(frame_times(str(image_root(source) / name))))
            for frame in range(0, frames, frame_stride):
                yield Located(name, frame, frames)
        else:
            yield Located(name, STILL, 1)


def survey(source: Path, frame_stride: int = 1) -> Survey:
    """Count the images of a source and hash their names and sizes, without reading them.

    Raises:
        ValueError: see `iterate_images`; the source is empty; a listed file is missing or listed
            twice.
    """
    found = hashlib.sha256()
    root = image_root(source)
    # A patch is known by its image's name and frame: no image may be there twice.
    names = array("Q")
    newest, newest_file = 0, root
    for image in iterate_images(source, frame_stride):
        try:
            status = (root / image.name).stat()
        except OSError as error:
            raise ValueError(
                f"image {root / image.name} of {source} cannot be read: {error.strerror}"
            ) from None
        found.update(f"{image.name}\0{image.frame}\0{status.st_size}\n".encode())
        if status.st_mtime_ns > newest:
            newest, newest_file = status.st_mtime_ns, root / image.name
        place = os.path.normpath(image.name)
        name = hashlib.sha256(f"{place}\0{image.frame}".encode()).digest()
        names.append(int.from_bytes(name[:8], "big"))
    if len(np.unique(names)) < len(names):
        raise ValueError(f"image list {source} names an image more than once")
    if not names:
        raise ValueError(
            f"image source {source} is empty: no file in it ends in one of "
            f"{', '.join(sorted(SUFFIXES))}"
        )
    return Survey(len(names), found.hexdigest(), newest, newest_file)


def _names(source: Path) -> Iterator[str]:
    suffix = source.suffix.lower()
    if source.is_dir():
        yield from _walk(source, "")
    elif not source.is_file():
        raise ValueError(
            f"image source {source} does not exist; give a folder of images, a list "
            f"({', '.join(sorted(LIST_SUFFIXES))}: one path a line), or a video"
        )
    elif suffix in LIST_SUFFIXES:
        yield from _listed(source)
    elif suffix in SUFFIXES:
        yield source.name
    else:
        raise ValueError(
            f"image source {source} is neither a folder, nor a list "
            f"({', '.join(sorted(LIST_SUFFIXES))}), nor an image or video "
            f"({', '.join(sorted(SUFFIXES))})"
        )


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    """Files below a folder, sorted by their whole relative path; hidden ones are left out."""
    with os.scandir(folder) as entries:
        shown = [
            (f"{one.name}/" if one.is_dir(follow_symlinks=False) else one.name)
            for one in entries
            if not one.name.startswith(".")
        ]
    # With the slash a folder stands where its files stand among the files beside it.
    for name in sorted(shown):
        if name.endswith("/"):
            yield from _walk(folder / name, prefix + name)
        elif Path(name).suffix.lower() in SUFFIXES:
            if "\t" in name or "\n" in name:
                raise ValueError(
                    f"the name {prefix + name!r} in {folder} holds a tab or a line break, which "
                    "image lists cannot; rename the file"
                )
            yield prefix + name


def _listed(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.strip() or line.startswith("#"):
                    continue
                name = line.partition("\t")[0].strip()
                if Path(name).suffix.lower() not in SUFFIXES:
                    raise ValueError(
                        f"image list {path}, line {number}: {name!r} ends in none of "
                        f"{', '.join(sorted(SUFFIXES))}"
                    )
                yield name
        except UnicodeDecodeError:
            raise ValueError(f"image list {path} is not text in UTF-8") from None
