"""Makes a set of images from a folder, a list or a video.

The order of the set never changes.
"""

import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, check_range
from pretrain_jax.data.listing import (
    STILL,
    Names,
    Tally,
    entries,
    image_root,
    names_classes,
)
from pretrain_jax.data.names import VIDEO_SUFFIXES, suffix_of
from pretrain_jax.data.opening import size_and_time
from pretrain_jax.data.pages import PAGED_SUFFIXES, page_count
from pretrain_jax.data.video import frame_times

UNLABELLED = -1


@dataclass(frozen=True)
class ImageSet:
    """Holds an ordered set of images.

    Each is a file, a frame of a video file, or a page of a file with several.

    Attributes:
        files: paths, in sorted or listed order.
        file_index: (n,) the file of each image.
        frames: (n,) number of the frame or page, `STILL` for the only picture of a file.
        labels: (n,) class of each image, -1 without one.
        classes: names of the classes.
        left_out: sentences on what lies in the source and is not among the files.
        refused: a line on every file whose name cannot be used.
    """

    files: Sequence[str]
    file_index: NDArray[np.int64]
    frames: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.file_index)

    def locate(self, index: int) -> tuple[str, int]:
        """Return the path and the frame of an image.

        The frame is `STILL` for a still image.
        """
        return self.files[self.file_index[index]], int(self.frames[index])

    def name(self, index: int) -> str:
        """Return the name by which messages call an image.

        It is the path, with the frame's number behind #.
        """
        path, frame = self.locate(index)
        return path if frame == STILL else f"{path}#{frame}"

    def take(self, indices: NDArray[np.int64]) -> "ImageSet":
        """Return the images at `indices`, in that order."""
        return replace(
            self,
            file_index=self.file_index[indices],
            frames=self.frames[indices],
            labels=self.labels[indices],
        )


def find_images(
    source: str | Path, *, frame_stride: int = 1, skip_at_most: float = 0.0
) -> ImageSet:
    """Find all images of a source.

    The order depends on names only.

    Args:
        source: a folder (searched recursively, sorted; its subfolders are the classes where every
            image lies in one of at least two), LAYOUT:FOLDER of a published collection, a container
            (see `pretrain_jax.data.containers`; its own classes, or those of a folder), an image
            list (`.txt`, `.tsv`, `.lst`: a path a line, relative to the list, with an optional
            class behind a tab and an optional group behind another), a video or an image.
        frame_stride: every how many frames of a video are kept, >= 1.
        skip_at_most: share of the files whose names may be of no use, which are left out.

    Raises:
        ValueError: the source is missing, empty or of an unknown kind; one sentence.
    """
    check_integer("frame_stride", frame_stride, 1, 2**31)
    codes: dict[str, int] = {"": UNLABELLED}
    labels = array("q")

    tally = Tally()

    def listed() -> Iterator[str]:
        for name, label, _ in entries(source, tally):
            labels.append(codes.setdefault(label, len(codes) - 1))
            yield name

    files = Names(image_root(source), listed())
    if len(tally.refused) > skip_at_most * (len(files) + len(tally.refused)):
        tally.check(source)
    if not names_classes(source) and (UNLABELLED in labels or len(codes) <= 2):
        labels[:] = array("q", [UNLABELLED]) * len(labels)  # the folders are no classes
        codes = {"": UNLABELLED}
    found = _image_set(files, codes, np.array(labels, np.int64), frame_stride)
    return replace(found, left_out=tally.notes(), refused=tuple(tally.lines()))


def hold_out(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Split a set by files into training and validation images.

    A video is never divided.

    Args:
        images: the set.
        share: share of the files that is held out, in [0, 1); at least one file where positive.
        seed: of the permutation of the files.

    Returns:
        Training images and held-out images, both in the order of `images`.

    Raises:
        ValueError: `share` out of range, or nothing would remain to train on.
    """
    check_range("share", share, 0.0, 1.0, open_high=True)
    files = np.unique(images.file_index)
    count = max(1, round(share * len(files))) if share > 0 else 0
    if count >= len(files):
        raise ValueError(
            f"validation share {share:g} of {len(files)} file(s) leaves none to train on; "
            "give more files or a separate validation source"
        )
    held = np.random.default_rng(seed).permutation(files)[:count]
    mask = np.isin(images.file_index, held)
    return images.take(np.flatnonzero(~mask)), images.take(np.flatnonzero(mask))


def _image_set(
    files: Names, codes: dict[str, int], labels: NDArray[np.int64], stride: int
) -> ImageSet:
    """Make the set of all images and frames of some files.

    Classes are numbered in the order of their names, whatever that of `codes` is.
    """
    classes = tuple(sorted(set(codes) - {""}))
    ranks = np.full(len(classes) + 1, UNLABELLED, np.int64)  # the last entry is that of -1
    for rank, name in enumerate(classes):
        ranks[codes[name]] = rank
    file_index, frames = array("q"), array("q")
    for index in range(len(files)):
        own: Sequence[int] = (STILL,)
        if suffix_of(files.name(index)) in VIDEO_SUFFIXES:
            # A video that cannot be read counts as one image, which decoding reports as unreadable.
            own = range(0, max(1, len(frame_times(files[index]))), stride)
        elif suffix_of(files.name(index)) in PAGED_SUFFIXES:
            pages = page_count(f"{files.root}/{files.name(index)}")
            own = range(pages) if pages > 1 else own
        for frame in own:
            file_index.append(index)
            frames.append(frame)
    of_file = np.array(file_index, np.int64)
    return ImageSet(
        files=files,
        file_index=of_file,
        frames=np.array(frames, np.int64),
        labels=ranks[labels][of_file],
        classes=classes,
    )


class Fingerprint(NamedTuple):
    """Identifies a set of images.

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
    """Make the fingerprint of a set from its files' names, sizes and times.

    A file that is missing has the size -1.
    """
    used, codes = np.unique(images.file_index, return_inverse=True)

    def paths() -> Iterator[str]:
        return (images.files[number] for number in used)

    common = _common(min(paths()), max(paths()))
    found = hashlib.sha256()
    newest, newest_file = 0, ""
    for path in paths():
        try:
            size, written = size_and_time(path)
        except (OSError, ValueError):
            size, written = -1, 0
        found.update(f"{path[common:]}\0{size}\n".encode())
        if written > newest:
            newest, newest_file = written, path
    for column in (codes, images.frames, images.labels):
        found.update(np.ascontiguousarray(column, np.int64).tobytes())
    return Fingerprint(len(images), found.hexdigest(), newest, newest_file)


def _common(first: str, last: str) -> int:
    """Count the characters of the folder that all paths share.

    The paths are sorted, so that what the first and the last share, all do.
    """
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return first.rfind(os.sep, 0, same) + 1
