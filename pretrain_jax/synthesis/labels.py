"""Reads labels and groups of a source's images, or says why there are none.

A label is the class of an image in an image list, or the first folder that it lies in. Labels are
of use where every image has one, and where there are at least two different ones.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.listing import entries, iterate_images, names_classes, split_layout
from pretrain_jax.synthesis.tables import Table

LABEL = "label"


def why_no_labels(source: str | Path) -> str:
    """Say why a source's labels are of no use.

    No image is read. The text is "" where they are of use.

    Args:
        source: see `pretrain_jax.data.listing.entries`.

    Raises:
        ValueError: see there.
    """
    layout, _ = split_layout(source)
    if layout:
        return f"the layout {layout} names no classes"
    return _why_not(str(source), ((one.name, one.label) for one in entries(source)))


def read_labels(index: str | Path, images: NDArray[np.int64]) -> NDArray[np.str_] | str:
    """Read the labels of images of an index.

    Args:
        index: folder of a finished stage `index`.
        images: their numbers.

    Returns:
        Their labels in this order; or the text that says why they are of no use.

    Raises:
        ValueError: the table is damaged.
    """
    table = Table(index)
    if LABEL not in table.columns:
        return f"{index} was made by an earlier version, which recorded no labels"
    found = table.take(images, ["name", LABEL])
    names, labels = (list(map(str, found[column])) for column in ("name", LABEL))
    why = _why_not(str(index), zip(names, labels, strict=True))
    return why or np.array(labels)


def read_groups(index: str | Path, images: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Number the groups (videos, sequences, patients) of images of an index.

    An image of no known group is a group of its own.

    Args:
        index: folder of a finished stage `index`.
        images: their numbers.

    Returns:
        A number for each image; None where no known group holds several of them.
    """
    names = np.array(list(map(str, Table(index).take(images, ["group"])["group"])))
    found, numbers, counts = np.unique(names, return_inverse=True, return_counts=True)
    unknown = names == ""
    if not np.any(counts[found != ""] > 1):
        return None
    return np.where(unknown, len(found) + np.arange(len(names)), numbers).astype(np.int64)


def check_same_labels(index: str | Path, source: str | Path, frame_stride: int) -> None:
    """Check that an image list or a container still has the labels that were indexed.

    The labels of other sources follow from the files' names.

    Raises:
        ValueError: the first image whose label has changed.
    """
    table = Table(index)
    if not names_classes(source) or LABEL not in table.columns:
        return
    indexed = (
        str(label) for batch in table.batches([LABEL]) for label in batch[LABEL]
    )  # in the order of the list
    listed = iterate_images(source, frame_stride)
    for image, label in zip_longest(listed, indexed):
        if image is not None and label is not None and image.label != label:
            raise ValueError(
                f"the label of image {image.name} in {source} is {image.label!r}, and was "
                f"{label!r} when it was indexed in {index}; put it back, or start anew with "
                "another folder"
            )


def _why_not(place: str, labelled: Iterable[tuple[str, str]]) -> str:
    """Say why labels are of no use, from the names of images and their labels."""
    counts: Counter[str] = Counter()
    first = ""
    for name, label in labelled:
        first = first if label or counts[""] else name
        counts[label] += 1
    total, without = counts.total(), counts[""]
    if without == total:
        return f"none of the {total} images of {place} has a label"
    if without:
        return f"{without} of the {total} images of {place} have no label, the first is {first}"
    known = [label for label in counts if label]
    if len(known) < 2:
        return f"all {total} images of {place} have the same label, {known[0]!r}"
    return ""
