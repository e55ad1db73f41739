"""What tells one set of images from another without reading them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pretrain_jax.data.sources import ImageSet

__all__ = ["Fingerprint", "fingerprint"]


class Fingerprint(NamedTuple):
    """Of a set of images.

    Attributes:
        images: how many.
        digest: sha256 of the files' names below their common folder and sizes, and of the images'
            order, frames and labels.
        newest: time of the file that was written last, in nanoseconds.
        newest_file: its path.
    """

    images: int
    digest: str
    newest: int
    newest_file: str


def fingerprint(images: ImageSet) -> Fingerprint:
    """Look at names, sizes and times of a set's files; one that is missing has the size -1."""
    used, codes = np.unique(images.file_index, return_inverse=True)

    def paths() -> Iterator[str]:
        return (images.files[number] for number in used)

    common = _common(min(paths()), max(paths()))
    found = hashlib.sha256()
    newest, newest_file = 0, ""
    for path in paths():
        try:
            status = Path(path).stat()
            size, written = status.st_size, status.st_mtime_ns
        except OSError:
            size, written = -1, 0
        found.update(f"{path[common:]}\0{size}\n".encode())
        if written > newest:
            newest, newest_file = written, path
    for column in (codes, images.frames, images.labels):
        found.update(np.ascontiguousarray(column, np.int64).tobytes())
    return Fingerprint(len(images), found.hexdigest(), newest, newest_file)


def _common(first: str, last: str) -> int:
    """Characters of the folder that the first and the last of sorted paths share, and so all do."""
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return first.rfind(os.sep, 0, same) + 1
