"""The boxes of a stage `propose` as a COCO file, written row by row."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from pretrain_jax.stages import Table, input_folder, read_manifest

__all__ = ["write_proposals"]

COLUMNS = ("image", "top", "left", "height", "width", "area", "confidence")


def write_proposals(proposals: str | Path, path: str | Path) -> int:
    """Write the boxes of all patches as COCO annotations; never all of them in memory.

    Numbers of images are those of the index; the one category is the proposer. The segmentation
    of an annotation is its box as a polygon, its area that of the proposer's mask.

    Args:
        proposals: folder of a finished stage `propose`.
        path: the JSON file, which must not exist.

    Returns:
        Number of annotations.

    Raises:
        ValueError: the stage is not finished, its index is gone, or the file exists.
        OSError: the file cannot be written.
    """
    folder, target = Path(proposals), Path(path)
    manifest = read_manifest(folder, "propose")
    index = Table(input_folder(folder, manifest, "index"))
    table = Table(folder)
    if target.exists():
        raise ValueError(f"{target} exists and is not replaced; choose another name")
    categories = [{"id": 1, "name": manifest.parameters["proposer"]}]
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write('{"images": ')
            _write_list(file, _images(index))
            file.write(f', "categories": {json.dumps(categories)}, "annotations": ')
            _write_list(file, _annotations(table))
            file.write("}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
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


def _annotations(table: Table) -> Iterator[dict[str, Any]]:
    number = 0
    for batch in table.batches(COLUMNS):
        for image, top, left, height, width, area, confidence in zip(
            *(batch[key].tolist() for key in COLUMNS), strict=True
        ):
            number += 1
            bottom, right = top + height, left + width
            yield {
                "id": number,
                "image_id": image,
                "category_id": 1,
                "bbox": [left, top, width, height],
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                "area": area,
                "iscrowd": 0,
                "score": confidence,
            }
