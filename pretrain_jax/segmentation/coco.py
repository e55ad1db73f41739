"""Writes masks and proposed patches as COCO annotations.

Regions are run-length encoded.
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
Masks = NDArray[np.bool_]
# Such a function maps pixels of an image to its patches' masks (n, H, W), by rank.
MasksOf = Callable[[NDArray[np.uint8]], Masks]
# Columns that are read of a table of patches.
COLUMNS = ("image", "rank", "top", "left", "height", "width", "confidence")


@dataclass(frozen=True)
class Annotation:
    """Represents a region of an image.

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


def encode_rle(mask: Mask) -> dict[str, Any]:
    """Encode a mask as COCO's compressed runs.

    They are {"size": [H, W], "counts": text}.

    Args:
        mask: (H, W), bool.

    Raises:
        ValueError: `mask` is not two-dimensional and boolean, or pycocotools is missing.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"mask has shape {mask.shape} and type {mask.dtype}, not (H, W) and bool")
    try:
        from pycocotools.mask import encode
    except ImportError:
        raise ValueError(
            "masks in COCO's form need the package pycocotools, which is not installed: "
            "pip install 'hardset[pretrain]'"
        ) from None
    counts = encode(np.asfortranarray(mask, np.uint8))["counts"]
    return {"size": [int(length) for length in mask.shape], "counts": counts.decode("ascii")}


def coco_record(
    images: Sequence[tuple[str, int, int]],
    categories: Sequence[str],
    annotations: Iterable[Annotation],
) -> dict[str, Any]:
    """Return the COCO record of images, categories and annotations.

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
    """Write a record as JSON, atomically.

    An existing file is refused.

    Raises:
        ValueError: the file exists.
    """
    if Path(path).exists():
        raise ValueError(f"{path} exists and is not replaced; choose another name")
    write_text_atomic(path, json.dumps(record))


def mask_box(mask: Mask) -> list[int]:
    """Return the left, top, width and height of a mask.

    They are zeros without foreground.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def write_proposals(
    proposals: str | Path, path: str | Path, *, masks_of: MasksOf | None = None
) -> int:
    """Write all patches as COCO annotations.

    They are never all in memory.

    Numbers of images are those of the index; the one category is the proposer. With `masks_of` the
    segmentation of an annotation is the run-length encoding of the patch's mask, bbox and area are
    the mask's, and patch_box is the patch's box (left, top, width, height), which may be larger.
    Without `masks_of`, all of them are those of the patch's box.

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
    write_records(target, _images(Table(index)), categories, annotations)
    return table.rows


def write_records(
    path: Path,
    images: Iterable[dict[str, Any]],
    categories: Iterable[dict[str, Any]],
    annotations: Iterable[dict[str, Any]],
) -> None:
    """Write COCO's records as JSON, atomically.

    They are never all in memory.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"images": ')
        _write_list(file, images)
        file.write(f', "categories": {json.dumps(list(categories))}, "annotations": ')
        _write_list(file, annotations)
        file.write("}\n")


def region_record(
    number: int, image: int, category: int, encoded: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of a region; its area and box follow from the runs.

    Args:
        number: of the annotation, from 1.
        image: its number.
        category: its number.
        encoded: see `encode_rle`.
    """
    from pycocotools.mask import area, toBbox

    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": encoded,
        "area": int(area(encoded)),
        "bbox": [int(one) for one in toBbox(encoded)],
        "iscrowd": 0,
    }


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
