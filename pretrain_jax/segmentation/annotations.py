"""Masks as COCO annotations: run-length encoding, compressed and not, and the JSON record.

Runs are counted down the columns, beginning with background, as the COCO data format has it. The
compressed form writes each count (from the third on its difference to the one two before) in
groups of five bits, the lowest first, as characters from 48 on.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.datafile import write_text_atomic

__all__ = ["Annotation", "coco_record", "decode_rle", "encode_rle", "mask_box", "write_coco"]

Mask = NDArray[np.bool_]

GROUP_BITS, SIGN_BIT, MORE_BIT, FIRST_CHARACTER = 5, 0x10, 0x20, 48


@dataclass(frozen=True)
class Annotation:
    """A region of an image.

    Attributes:
        image: number of the image, from 1.
        category: number of the category, from 1.
        mask: (H, W).
        score: confidence, None where there is none.
    """

    image: int
    category: int
    mask: Mask
    score: float | None = None


def encode_rle(mask: Mask, *, compressed: bool = True) -> dict[str, Any]:
    """COCO's run-length encoding of a mask: {"size": [H, W], "counts": text or list}.

    Args:
        mask: (H, W), bool.
        compressed: whether counts are COCO's text form.

    Raises:
        ValueError: `mask` is not two-dimensional and boolean.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"mask has shape {mask.shape} and type {mask.dtype}, not (H, W) and bool")
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist() if flat.size else []
    if flat.size and flat[0]:
        counts = [0, *counts]
    size = [int(length) for length in mask.shape]
    return {"size": size, "counts": _compress(counts) if compressed else counts}


def decode_rle(rle: dict[str, Any]) -> Mask:
    """The mask of a run-length encoding, compressed (text or bytes) or not.

    Raises:
        ValueError: the size or the runs are missing or of another form, the runs do not fill the
            size, or the text is none of COCO's.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(map(_is_count, size))):
        raise ValueError(f"the run-length encoding has size = {size!r}, not [height, width]")
    height, width = (int(length) for length in size)
    if isinstance(counts, bytes):
        # Of any byte a character, so that a wrong one is named.
        counts = counts.decode("latin-1")
    if isinstance(counts, str):
        counts = _decompress(counts)
    elif not (isinstance(counts, list | tuple) and all(map(_is_count, counts))):
        raise ValueError(
            "the run-length encoding has counts of another form than text or a list of integers of "
            "0 or more"
        )
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"runs of {sum(counts)} pixels do not make a mask of {height} x {width}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def _is_count(value: Any) -> bool:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole and bool(value >= 0)


def coco_record(
    images: Sequence[tuple[str, int, int]],
    categories: Sequence[str],
    annotations: Iterable[Annotation],
) -> dict[str, Any]:
    """The COCO record of images, categories and annotations.

    Args:
        images: file name, height and width of each image.
        categories: names.
        annotations: regions; area and box follow from their masks.

    Raises:
        ValueError: an annotation of an unknown image or category, or of another size.
    """
    listed = []
    for number, one in enumerate(annotations, 1):
        if not (1 <= one.image <= len(images) and 1 <= one.category <= len(categories)):
            raise ValueError(
                f"annotation {number} is of image {one.image} and category {one.category}; there "
                f"are {len(images)} images and {len(categories)} categories"
            )
        name, height, width = images[one.image - 1]
        if one.mask.shape != (height, width):
            raise ValueError(
                f"annotation {number} has the shape {one.mask.shape}, image {name} is "
                f"{height} x {width}"
            )
        entry: dict[str, Any] = {
            "id": number,
            "image_id": one.image,
            "category_id": one.category,
            "segmentation": encode_rle(one.mask),
            "area": int(one.mask.sum()),
            "bbox": mask_box(one.mask),
            "iscrowd": 0,
        }
        listed.append(entry | ({} if one.score is None else {"score": float(one.score)}))
    return {
        "images": [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, (name, height, width) in enumerate(images, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 1)],
        "annotations": listed,
    }


def write_coco(path: str | Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, atomically; an existing file is refused.

    Raises:
        ValueError: the file exists.
    """
    if Path(path).exists():
        raise ValueError(f"{path} exists and is not replaced; choose another name")
    write_text_atomic(path, json.dumps(record))


def mask_box(mask: Mask) -> list[int]:
    """Left, top, width and height; zeros without foreground."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _compress(counts: Sequence[int]) -> str:
    characters = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            group = value & (MORE_BIT - 1)
            value >>= GROUP_BITS
            # The sign of what was written is its highest bit.
            more = value != -1 if group & SIGN_BIT else value != 0
            characters.append(chr(FIRST_CHARACTER + (group | (MORE_BIT if more else 0))))
    return "".join(characters)


def _decompress(text: str) -> list[int]:
    counts: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            if place == len(text):
                raise ValueError("the compressed runs end within a number")
            group = ord(text[place]) - FIRST_CHARACTER
            if not 0 <= group < 2 * MORE_BIT:
                raise ValueError(
                    f"the compressed runs hold {text[place]!r}, no character of theirs"
                )
            value |= (group & (MORE_BIT - 1)) << shift
            shift += GROUP_BITS
            place += 1
            more = bool(group & MORE_BIT)
            if not more and group & SIGN_BIT:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
