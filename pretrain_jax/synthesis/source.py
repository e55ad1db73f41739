"""What a source of images holds, and where outputs may not go."""

import hashlib
import os
from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pretrain_jax.data.collections import video_group
from pretrain_jax.data.listing import (
    Located,
    image_root,
    iterate_images,
    split_layout,
)

__all__ = ["Located", "Survey", "check_outside", "image_root", "iterate_images", "survey"]


class Survey(NamedTuple):
    """What a source holds.

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


def survey(source: str | Path, frame_stride: int = 1) -> Survey:
    """Count the images of a source and hash their names and sizes, without reading them.

    Raises:
        ValueError: see `iterate_images`; a listed file is missing or listed
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
        # The group that follows from the name says nothing more.
        own = f"\0{image.group}" if image.group != video_group(image.name) else ""
        found.update(f"{image.name}\0{image.frame}\0{status.st_size}{own}\n".encode())
        if status.st_mtime_ns > newest:
            newest, newest_file = status.st_mtime_ns, root / image.name
        place = os.path.normpath(image.name)
        name = hashlib.sha256(f"{place}\0{image.frame}".encode()).digest()
        names.append(int.from_bytes(name[:8], "big"))
    if len(np.unique(names)) < len(names):
        raise ValueError(f"image list {source} names an image more than once")
    return Survey(len(names), found.hexdigest(), newest, newest_file)
