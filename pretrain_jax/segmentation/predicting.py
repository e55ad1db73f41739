"""Runs the stage `predict`, which applies a fine-tuned model to any images.

Of each image it leaves a mask of the image's own size, and what regions and areas follow from it.
"""

import csv
import hashlib
import io
import itertools
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.arrays import npy_bytes
from hardset.checks import check_integer, check_range
from hardset.cli import printable
from hardset.datafile import atomic_file, write_bytes_atomic
from hardset.folder import Input, Made, Manifest, Stage, read_manifest
from hardset.listing import file_record
from hardset.seal import sealed
from pretrain_jax.data import UnreadableImageError, read_pixels
from pretrain_jax.data.listing import STILL, Located, Tally, image_root, iterate_images
from pretrain_jax.data.opening import Remark, remark_notes
from pretrain_jax.data.options import READING, Pages, reading, set_reading
from pretrain_jax.data.skipping import reason_line, told
from pretrain_jax.features.embedding import image_id
from pretrain_jax.pictures import Tile, contact_sheet, write_png
from pretrain_jax.segmentation.coco import encode_rle, region_record, write_records
from pretrain_jax.segmentation.result import legend, overlay, spread
from pretrain_jax.segmentation.segmenter import (
    BATCH,
    TrainedSegmenter,
    labels_at,
    load_segmenter,
    probabilities_at,
)
from pretrain_jax.synthesis.parts import read_image
from pretrain_jax.synthesis.source import check_outside, survey
from pretrain_jax.synthesis.tables import MOST_SHARDS, Logged, Make, Shards, Table

Bytes = NDArray[np.uint8]

MASKS, OVERLAYS, PROBABILITIES, PIECES = "masks", "overlays", "probabilities", "pieces"
COCO_NAME, AREAS_NAME, SHEET_NAME = "coco.json", "areas.csv", "overlays.png"
PREDICT = Stage(
    "predict",
    inputs=("model", "source", "root", "spacing"),
    parameters=("frame_stride", "images", "pieces", "overlays", "probabilities", *READING),
    # Each of these files holds its own checksum.
    apart=(MASKS, OVERLAYS, PROBABILITIES),
)
PIECE = 128  # images: what a killed process loses at most
AHEAD = 4  # images that are decoded before their turn
HELD = 1 << 26  # pixels of the images of a batch that are held at once
SHOWN = 10  # sentences of an error
LONGEST = 200  # bytes of a folder's or file's name
AREA_COLUMNS = ("image", "class", "pixels", "share")
# Beside an image list: distances of the rows and columns of its images, as imports of scans have.
SPACING_NAME, SPACING_COLUMNS = "spacing.csv", ("image", "row_mm", "column_mm")
SHEET = 24  # images of the sheet of overlays
ROWS = {
    "image": "int64",
    "name": "string",
    "frame": "int32",
    "height": "int32",
    "width": "int32",
    "label": "int32",
    "pixels": "int64",
    "counts": "string",
}


def predict(
    source: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    overlays: bool = True,
    probabilities: bool = False,
    frame_stride: int = 1,
    skip_at_most: float = 0.01,
    batch_size: int = BATCH,
    workers: int = 2,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
    progress: bool = False,
) -> Manifest:
    """Predict the class of each pixel of all images of a source.

    The same call goes on after an interruption. Written are, with the names of `output_name`:

    - `masks/`: 8-bit PNG files of the images' sizes, whose values are the numbers of the classes.
      255, a border that masks for training may have, is never predicted.
    - `coco.json`: each class but the first of each image as one region, run-length encoded.
    - `areas.csv`: pixels and share of every class in every image, and the area in mm2 where a
      `spacing.csv` lies beside the images, see `read_spacing`.
    - `overlays/`: the images with their classes in colour, and a sheet of some in `overlays.png`.
    - `probabilities/` on request: `.npy` files of float16, shape (height, width, classes).

    Args:
        source: images, see `pretrain_jax.data.find_images`.
        model: folder of a finished stage `finetune`.
        out: the stage's folder.
        overlays: whether each image gets one; the sheet is always drawn.
        probabilities: whether they are written: 2 bytes a pixel and class.
        frame_stride: every how many frames of a video are taken.
        skip_at_most: share of the images that may be unreadable, in [0, 1]; the stage stops when
            there are more. What is predicted by then is kept, and a larger share goes on.
        batch_size: images of a device program, divided among all devices. Masks do not depend on
            it beyond the rounding of two classes that are equally probable.
        workers: threads that decode images.
        max_megapixels: of the largest image that is decoded, default 100.
        pages: whether "all" pictures of a file with several (pages, slices, frames of an animation)
            are images, or the "first" only; default all.
        bits: that 16-bit images use where their file does not say, 10 to 16; None takes what the
            model was trained with.
        progress: whether to draw a progress bar.

    Returns:
        The manifest with the counts images, predicted and unreadable, and the pixels of each class.

    Raises:
        ValueError: no finished fine-tuning, bad options, no readable image, too many unreadable
            ones; says which.
        OSError: the folder cannot be written.
    """
    check_integer("frame_stride", frame_stride, 1, 2**31)
    check_range("skip_at_most", skip_at_most, 0.0, 1.0)
    check_integer("batch_size", batch_size, 1, 1 << 20)
    check_integer("workers", workers, 1, 4096)
    check_outside(source, out)
    segmenter = load_segmenter(model).on_all_devices()
    if bits is None:
        bits = read_manifest(model).parameters.get("bits")
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    tally = Tally()
    found = survey(source, frame_stride, tally)
    for linked in tally.linked:
        check_outside(linked, out)
    divided = Shards.of(found.images, min(MOST_SHARDS, -(-found.images // PIECE)))
    parameters = {
        "frame_stride": frame_stride,
        "images": found.images,
        "pieces": divided.count,
        "overlays": overlays,
        "probabilities": probabilities,
        "max_megapixels": reading().max_megapixels,
    } | reading().content()
    inputs = {
        "model": Input.of(model),
        "source": Input(found.digest),
        "root": Input(None, image_root(source)),
    }
    spacing, areas = image_root(source) / SPACING_NAME, None
    if spacing.is_file():
        inputs["spacing"] = Input(file_record(spacing)["sha256"])
        areas = read_spacing(spacing)
    work = PREDICT.open(out, parameters, None, inputs)
    task = _Task(
        Path(out),
        source,
        frame_stride,
        segmenter,
        overlays,
        probabilities,
        batch_size,
        workers,
        areas,
    )
    limit = _Limit(skip_at_most, found.images + len(tally.refused), tally.lines())
    passed = tally.notices()
    return work.run(lambda work: _fill(task, divided, limit, passed, progress))


def read_spacing(path: Path) -> dict[str, float]:
    """Read the area of a pixel of each image in mm2.

    Args:
        path: a table with the columns image, row_mm and column_mm; images without numbers are left
            out.

    Raises:
        ValueError: another table, or numbers that are no distances; names the line.
    """
    found = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        try:
            if not set(SPACING_COLUMNS) <= set(rows.fieldnames or ()):
                raise ValueError(f"{path} has not the columns {', '.join(SPACING_COLUMNS)}")
            for row in rows:
                name, *sides = (row[column] or "" for column in SPACING_COLUMNS)
                if not all(sides):
                    continue
                try:
                    area = float(sides[0]) * float(sides[1])
                except ValueError:
                    area = math.nan
                if not 0 < area < math.inf:
                    raise ValueError(
                        f"{path}, line {rows.line_num}: {' x '.join(sides)} are no distances in mm"
                    )
                found[os.path.normpath(name)] = area
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is no table in UTF-8: {error}") from None
    return found


def output_name(name: str, frame: int = STILL) -> str:
    """Name the output that belongs to an image, without its ending.

    It is the image's id, its name with its ending and the number of a frame behind #, so that
    `a/b.jpg` has the mask `masks/a/b.jpg.png`. Different images have different names, none of
    which leads out of a folder: what could, is written as %2F, %2E%2E and the like.

    Args:
        name: of the image's file in its source.
        frame: of a video or of a file of several pages; `STILL` where there is one picture.
    """
    path = PurePosixPath(os.path.normpath(name))
    *folders, last = [part.replace("%", "%25") for part in path.parts]
    last = image_id(last, frame)
    if folders and folders[0].startswith("/"):
        folders[0] = "%2F"
    parts = [_folder(part) for part in folders]
    return "/".join([*parts, _short(last)])


def _folder(part: str) -> str:
    if part == "..":
        return "%2E%2E"
    # So that no folder has the name of a file that is written.
    stem, dot, ending = part.rpartition(".")
    return _short(f"{stem}%2E{ending}" if dot and ending in ("png", "npy") else part)


def _short(part: str) -> str:
    """Shorten a name that has no room for an ending more."""
    held = part.encode()
    if len(held) <= LONGEST:
        return part
    told = hashlib.sha256(held).hexdigest()[:32]
    return held[: LONGEST - len(told) - 2].decode(errors="ignore") + f"%~{told}"


@dataclass(frozen=True)
class _Task:
    """Says what is predicted by what, and where it goes."""

    folder: Path
    source: str | Path
    frame_stride: int
    segmenter: TrainedSegmenter
    overlays: bool
    probabilities: bool
    batch_size: int
    workers: int
    areas: Mapping[str, float] | None


@dataclass
class _Limit:
    """Bounds the images that may be left out.

    Attributes:
        share: of the files of the source.
        files: how many there are.
        reasons: why images are left out, as far as this process knows.
    """

    share: float
    files: int
    reasons: list[str]

    def check(self, source: str | Path) -> None:
        """Check that no more images are left out than may be.

        Raises:
            ValueError: the first ones with their reasons, and how many there are.
        """
        found = len(self.reasons)
        if found > self.share * self.files:
            more = f"; and {found - SHOWN} more" if found > SHOWN else ""
            shown = "; ".join(printable(one) for one in self.reasons[:SHOWN])
            raise ValueError(
                f"{found} of the {self.files} images of {source} cannot be used, more than the "
                f"share {self.share:g} that may be skipped: {told(self.reasons)}. These are "
                f"{shown}{more}. Mend them or take them out, or raise --skip-at-most: what is "
                "predicted by now is kept"
            )


class _Decoded(NamedTuple):
    """Holds an image with its number in the source."""

    number: int
    image: Located
    pixels: Bytes


def _fill(
    task: _Task, divided: Shards, limit: _Limit, passed: tuple[str, ...], progress: bool
) -> Made:
    """Predict what is missing, and write what follows from all masks."""
    folder, refused = task.folder, list(limit.reasons)
    pieces = folder / PIECES
    pieces.mkdir(exist_ok=True)

    def begin() -> Make:
        images = enumerate(iterate_images(task.source, task.frame_stride, Tally()))

        def make(
            _: int, first: int, end: int, logged: Logged, bar: Any
        ) -> Iterator[dict[str, Any]]:
            limit.check(task.source)
            wanted = (one for one in images if one[0] >= first)
            yield from _rows(task, itertools.islice(wanted, end - first), logged, bar)
            limit.reasons += logged.skipped

        return make

    filled = divided.fill(pieces, ROWS, begin, name="predict", unit="image", progress=progress)
    assert filled is not None  # no other process makes pieces
    table, logs = filled
    logs.skipped = refused + logs.skipped
    classes = task.segmenter.classes
    if not table.rows:
        first = "; ".join(printable(one) for one in logs.skipped[:SHOWN])
        raise ValueError(f"none of the {limit.files} images of {task.source} can be read: {first}")
    replace(limit, reasons=logs.skipped).check(task.source)
    write_records(
        folder / COCO_NAME,
        _images(table),
        [{"id": number, "name": name} for number, name in enumerate(classes) if number],
        _regions(table),
    )
    totals = _write_areas(folder / AREAS_NAME, table, classes, task.areas)
    _sheet(task, table)
    counts: dict[str, int | float] = {
        "images": limit.files,
        "predicted": table.rows // len(classes),
        "unreadable": len(logs.skipped),
    }
    counts |= {f"pixels_{name}": int(one) for name, one in zip(classes, totals, strict=True)}
    remarks = [(name, Remark(kind, text)) for name, kind, text in map(_told, logs.notes)]
    notes = [*logs.write_skipped(folder), *remark_notes(remarks), *passed]
    return Made(
        counts,
        notes,
        seconds=logs.seconds,
        compile_seconds=logs.compile_seconds,
        spent=(PIECES,),
    )


def _told(note: str) -> list[str]:
    return note.split("\t")


def _rows(
    task: _Task, images: Iterator[tuple[int, Located]], logged: Logged, bar: Any
) -> Iterator[dict[str, Any]]:
    """Predict images batch by batch, and write their files."""
    with ThreadPoolExecutor(task.workers) as pool:
        for batch in _batches(task, images, logged, pool, bar):
            pixels = [one.pixels for one in batch]
            logits = task.segmenter.logits(pixels, batch_size=task.batch_size)
            rows = itertools.chain.from_iterable(
                pool.map(lambda both: _write(task, *both), zip(batch, logits, strict=True))
            )
            yield dict(zip(ROWS, zip(*rows, strict=True), strict=True))
            bar.update(len(batch))


def _batches(
    task: _Task,
    images: Iterator[tuple[int, Located]],
    logged: Logged,
    pool: Executor,
    bar: Any,
) -> Iterator[list[_Decoded]]:
    """Decode images into batches; large images make small ones."""
    held: list[_Decoded] = []
    size = 0
    for number, image, found in _ahead(task, images, pool):
        if isinstance(found, str):
            logged.skip(found)
            bar.update()
            continue
        pixels, remarks = found
        name = image_id(image.name, image.frame)
        logged.notes += [f"{name}\t{one.kind}\t{one.text}" for one in remarks]
        area = pixels.shape[0] * pixels.shape[1]
        if held and size + area > HELD:
            yield held
            held, size = [], 0
        held.append(_Decoded(number, image, pixels))
        size += area
        if len(held) == task.batch_size:
            yield held
            held, size = [], 0
    if held:
        yield held


def _ahead(
    task: _Task, images: Iterator[tuple[int, Located]], pool: Executor
) -> Iterator[tuple[int, Located, tuple[Bytes, list[Remark]] | str]]:
    """Decode images before their turn; a text says why one cannot be read."""
    root, channels = image_root(task.source), task.segmenter.encoder.channels

    def read(image: Located) -> tuple[Bytes, list[Remark]] | str:
        remarks: list[Remark] = []
        try:
            pixels = read_pixels(
                str(root / image.name), image.frame, channels=channels, remarks=remarks
            )
        except UnreadableImageError as error:
            return reason_line(error.reason, str(error).replace(f"{root}{os.sep}", ""))
        return pixels.astype(np.uint8, copy=False), remarks

    waiting: deque[tuple[int, Located, Future[tuple[Bytes, list[Remark]] | str]]] = deque()
    for number, image in images:
        waiting.append((number, image, pool.submit(read, image)))
        if len(waiting) > AHEAD:
            first, located, future = waiting.popleft()
            yield first, located, future.result()
    for first, located, future in waiting:
        yield first, located, future.result()


def _write(
    task: _Task, one: _Decoded, logits: NDArray[np.float32]
) -> list[tuple[int, str, int, int, int, int, int, str]]:
    """Write the files of an image; return a row of each class."""
    height, width = one.pixels.shape[:2]
    mask = labels_at(logits, (height, width))
    name = output_name(one.image.name, one.image.frame)
    _write_png(task.folder / MASKS / f"{name}.png", mask)
    if task.overlays:
        _write_png(task.folder / OVERLAYS / f"{name}.png", overlay(one.pixels, mask))
    if task.probabilities:
        path = task.folder / PROBABILITIES / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = probabilities_at(logits, (height, width)).astype(np.float16)
        write_bytes_atomic(path, sealed(npy_bytes(found)))
    about = one.number, one.image.name, one.image.frame, height, width
    rows = []
    for label in range(len(task.segmenter.classes)):
        region = mask == label
        pixels = int(np.count_nonzero(region))
        counts = encode_rle(region)["counts"] if label and pixels else ""
        rows.append((*about, label, pixels, counts))
    return rows


def _write_png(path: Path, pixels: Bytes) -> None:
    """Write a PNG file with its checksum behind its end, which readers do not mind."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(path, sealed(buffer.getvalue()))


def _entries(table: Table) -> Iterator[dict[str, Any]]:
    for batch in table.batches(list(ROWS)):
        for row in zip(*batch.values(), strict=True):
            yield dict(zip(ROWS, row, strict=True))


def _images(table: Table) -> Iterator[dict[str, Any]]:
    for row in _entries(table):
        if row["label"] == 0:
            name, frame = str(row["name"]), int(row["frame"])
            yield {
                "id": int(row["image"]) + 1,
                "file_name": name,
                "height": int(row["height"]),
                "width": int(row["width"]),
                **({} if frame == STILL else {"frame": frame}),
                "mask": f"{MASKS}/{output_name(name, frame)}.png",
            }


def _regions(table: Table) -> Iterator[dict[str, Any]]:
    found = (row for row in _entries(table) if row["label"] and row["pixels"])
    for number, row in enumerate(found, 1):
        size = [int(row["height"]), int(row["width"])]
        encoded = {"size": size, "counts": str(row["counts"])}
        yield region_record(number, int(row["image"]) + 1, int(row["label"]), encoded)


def _write_areas(
    path: Path, table: Table, classes: tuple[str, ...], areas: Mapping[str, float] | None
) -> NDArray[np.int64]:
    """Write the table of areas; return the pixels of each class."""
    totals = np.zeros(len(classes), np.int64)
    with (
        atomic_file(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow((*AREA_COLUMNS, *(() if areas is None else ("mm2",))))
        for row in _entries(table):
            pixels, label = int(row["pixels"]), int(row["label"])
            totals[label] += pixels
            share = pixels / (int(row["height"]) * int(row["width"]))
            name = image_id(str(row["name"]), int(row["frame"]))
            own = () if areas is None else (_area(pixels, areas, str(row["name"])),)
            lines.writerow([name, classes[label], pixels, f"{share:.6g}", *own])
    return totals


def _area(pixels: int, areas: Mapping[str, float], name: str) -> str:
    known = areas.get(os.path.normpath(name))
    return "" if known is None else f"{pixels * known:.6g}"


def _sheet(task: _Task, table: Table) -> None:
    """Draw images with their classes, spread over all."""
    from PIL import Image

    classes, root = len(task.segmenter.classes), image_root(task.source)
    images = table.rows // classes
    chosen = np.array(spread(images, SHEET)) * classes
    tiles = []
    for name, frame in zip(*table.take(chosen, ["name", "frame"]).values(), strict=True):
        try:
            pixels = read_image(root, str(name), int(frame), task.segmenter.encoder.channels)
        except UnreadableImageError:  # gone since
            continue
        with Image.open(task.folder / MASKS / f"{output_name(str(name), int(frame))}.png") as mask:
            shown = overlay(pixels, np.asarray(mask))
        tiles.append(Tile(shown, (image_id(str(name), int(frame)),)))
    heading = f"{len(tiles)} of {images} images: {legend(task.segmenter.classes)}"
    write_png(task.folder / SHEET_NAME, contact_sheet([(heading, tiles)]))
