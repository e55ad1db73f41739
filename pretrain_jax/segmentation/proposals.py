"""The patches of a stage `propose` as a COCO file, written row by row."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from hardset.datafile import atomic_file
from pretrain_jax.segmentation.annotations import encode_rle, mask_box
from pretrain_jax.stages import Table, input_folder, read_manifest
from pretrain_jax.synthesis.images import Images
from pretrain_jax.synthesis.pixels import read_image

__all__ = ["write_proposals"]

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
