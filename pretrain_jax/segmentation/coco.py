"""Masks as COCO annotations: run-length encoding, compressed and not, and the JSON record.

Runs are counted down the columns, beginning with background, as the COCO data format has it. The
compressed form writes each count (from the third on its difference to the one two before) in
groups of five bits, the lowest first, as characters from 48 on.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from hardset.datafile import atomic_file, write_text_atomic
from hardset.folder import input_folder, read_manifest
from pretrain_jax.synthesis.parts import Images, read_image
from pretrain_jax.synthesis.tables import Table

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


COLUMNS = ("image", "rank", "top", "left", "height", "width", "confidence")
Masks = NDArray[np.bool_]
# Pixels of an image -> the mask (n, H, W) of each of its patches, by rank.
MasksOf = Callable[[NDArray[np.uint8]], Masks]


def write_proposals(
    proposals: str | Path, path: str | Path, *, masks_of: MasksOf | None = None
) -> int:
    """Write all patches as COCO annotations; never all of them in memory.

    Numbers of images are those of the index; the one category is the proposer. With `masks_of` the
    segmentation of an annotation is the run-length encoding of the patch's mask, bbox and area are
    the mask's, and patch_box is the patch's box (left, top, width, height), which may be larger.
    Without, all of them are those of the patch's box.

    Args:
        proposals: folder of a finished stage `propose`.
        path: the JSON file, which must not exist.
        masks_of: the proposer's masks; images are decoded for it.

    Returns:
        Number of annotations.

    Raises:
        ValueError: the stage is not finished, its index is gone, an image has changed, `masks_of`
            gives other masks than the stage had, or the file exists.
        OSError: the file cannot be written.
    """
    folder, target = Path(proposals), Path(path)
    manifest = read_manifest(folder, "propose")
    index = input_folder(folder, manifest, "index")
    table = Table(folder)
    if target.exists():
        raise ValueError(f"{target} exists and is not replaced; choose another name")
    annotations: Iterator[dict[str, Any]]
    if masks_of is None:
        annotations = (_of_box(*row) for row in enumerate(_rows(table), 1))
    else:
        images = Images(index)
        images.check_unchanged()
        annotations = _of_masks(table, images, masks_of)
    categories = [{"id": 1, "name": manifest.parameters["proposer"]}]
    with atomic_file(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"images": ')
        _write_list(file, _images(Table(index)))
        file.write(f', "categories": {json.dumps(categories)}, "annotations": ')
        _write_list(file, annotations)
        file.write("}\n")
    return table.rows


def _write_list(file: TextIO, entries: Iterable[dict[str, Any]]) -> None:
    before = "["
    for entry in entries:
        file.write(f"{before}\n{json.dumps(entry)}")
        before = ","
    file.write("[]" if before == "[" else "\n]")


def _images(index: Table) -> Iterator[dict[str, Any]]:
    columns = ("image", "name", "frame", "height", "width")
    for batch in index.batches(columns):
        for number, name, frame, height, width in zip(
            *(batch[key].tolist() for key in columns), strict=True
        ):
            entry = {"id": number, "file_name": name, "height": height, "width": width}
            yield entry if frame < 0 else entry | {"frame": frame}


def _rows(table: Table) -> Iterator[tuple[Any, ...]]:
    for batch in table.batches(COLUMNS):
        yield from zip(*(batch[key].tolist() for key in COLUMNS), strict=True)


def _of_box(number: int, row: tuple[Any, ...]) -> dict[str, Any]:
    image, _, top, left, height, width, confidence = row
    bottom, right = top + height, left + width
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [left, top, width, height],
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
        "area": height * width,
        "iscrowd": 0,
        "score": confidence,
    }


def _of_masks(table: Table, images: Images, masks_of: MasksOf) -> Iterator[dict[str, Any]]:
    number = 0
    for image, rows in itertools.groupby(_rows(table), key=lambda row: row[0]):
        place = images.table.take(np.array([image]), ["name", "frame"])
        name, frame = str(place["name"][0]), int(place["frame"][0])
        masks = masks_of(read_image(images.root, name, frame))
        for row in rows:
            number += 1
            rank, (top, left, height, width) = row[1], row[2:6]
            mask = masks[rank] if rank < len(masks) else None
            if mask is None or not mask[top : top + height, left : left + width].any():
                raise ValueError(
                    f"the proposer finds other masks in image {name} than the stage had; write the "
                    "boxes alone"
                )
            yield _of_box(number, row) | {
                "bbox": mask_box(mask),
                "segmentation": encode_rle(mask),
                "area": int(mask.sum()),
                "patch_box": [left, top, width, height],
            }
