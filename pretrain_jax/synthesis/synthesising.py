"""Runs the stage `synthesise`, which writes the smaller set as files.

It also writes the list that training reads.
"""

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from hardset.checks import check_integer
from hardset.folder import (
    CLAIM,
    Input,
    Made,
    Manifest,
    Stage,
    Work,
    input_folder,
    read_manifest,
    remedy,
)
from hardset.listing import Listed, file_record
from hardset.progress import bar
from pretrain_jax.data.listing import STILL, list_line
from pretrain_jax.data.opening import changed_image
from pretrain_jax.data.options import CONTENT, reading
from pretrain_jax.pictures import write_png
from pretrain_jax.places import DATA_LIST
from pretrain_jax.synthesis.parts import Box, Images, Pixels, cut, read_image
from pretrain_jax.synthesis.picking import pixel_budget
from pretrain_jax.synthesis.selecting import SELECTION
from pretrain_jax.synthesis.sheets import set_sheet
from pretrain_jax.synthesis.source import keep_list
from pretrain_jax.synthesis.tables import Logged, Table, write_table

FILES = "files"
SOURCES = "sources"
FOLDER = "images"
CHUNK = 4096  # images whose names are looked up at once
FEW = 256  # the same where bytes are limited, of which some are made in vain
WORKERS = 2
SYNTHESISE = Stage(
    "synthesise",
    inputs=("selection", "index"),
    parameters=("method", "ratio", "proposer", "patches", "storage", *CONTENT),
    apart=(FOLDER,),
    local=(DATA_LIST,),
)

SOURCE_COLUMNS = {
    "synthetic": "int64",
    "place": "int8",
    "patch": "int64",
    "image": "int64",
    "top": "int32",
    "left": "int32",
    "height": "int32",
    "width": "int32",
    "margin": "float32",
    "proposer": "string",
    "seed": "int64",
}
FILE_COLUMNS = {
    "image": "int64",
    "name": "string",
    "written": "bool",
    "height": "int32",
    "width": "int32",
    "bytes": "int64",
    "sha256": "string",
}


def synthesise(
    selection: str | Path,
    out: str | Path,
    *,
    patches: int = 4,
    progress: bool = False,
) -> Manifest:
    """Make the set of a selection.

    It consists of images of m patches each, or is a list of whole images.

    Image j is made of the patches m j to m j + m - 1 of the selection, hardest first, row by row,
    on a square grid that tiles the size of the image that its first patch is of; every patch is
    brought to its cell, bicubic with antialiasing. The image is written as PNG, with eight bits a
    channel. Whole images stay where they are, but for frames of videos, which are written as PNG.
    Of a selection with storage = "bytes" the set ends before the first image with which the files
    would take more than `ratio` of the full set's bytes (for the method "all" there is no limit).

    Written are `data.txt`, a list that `pretrain_jax.train` reads; the table `files` (image, name
    within this folder or the source's, whether it was written here, height, width, bytes,
    sha256); and for patches the table `sources`: of each synthetic image and
    place the patch, its image and box, margin, proposer and the selection's seed.

    Args:
        selection: folder of stage `select`.
        out: the stage's folder; a rerun makes only the images that are missing.
        patches: of an image, as in the selection where it is of patches.
        progress: whether to draw a progress bar.

    Returns:
        The manifest with the counts images, patches, pixels, storage_ratio, bytes, bytes_ratio
        and, of the full set, images_full, pixels_full and bytes_full; with storage = "bytes" also
        left_out, images of the selection for which no bytes were left.

    Raises:
        ValueError: no finished selection, another number of patches than it was made for, an image
            that has changed, bytes in which not one image fits.
        UnreadableImageError: an image that a patch is of cannot be read any more.

    Source: patches stitched in order of hardness at the original pixel count, OptiDEL,
    arXiv:2408.07107.
    """
    check_integer("patches", patches, 1, 1 << 20)
    manifest = read_manifest(selection, "select")
    own = manifest.parameters["patches"]
    stitched = manifest.parameters["kind"] == "patch"
    if stitched and own != patches:
        raise ValueError(
            f"patches = {patches}; {selection} was made for images of {own} patches, by which its "
            "storage is counted: select anew"
        )
    images = Images(input_folder(selection, manifest, "index"))
    images.check_unchanged()
    work = SYNTHESISE.open(
        out,
        {
            "method": manifest.parameters["method"],
            "ratio": manifest.parameters["ratio"],
            "proposer": manifest.parameters["proposer"],
            "patches": own,
            "storage": manifest.parameters.get("storage", "pixels"),
        }
        | reading().content(),  # of the index, for images that are listed where they lie
        manifest.seed,
        {"selection": Input.of(selection, manifest), "index": images.as_input()},
    )

    def again(_: Manifest) -> tuple[str, ...]:
        written = keep_list(Path(out) / DATA_LIST, lambda: listed(Path(out), images))
        return (DATA_LIST,) if written else ()

    return work.run(
        lambda work: _fill(work, manifest, Table(selection, SELECTION), images, progress), again
    )


def listed(folder: Path, images: Images) -> Iterator[str]:
    """List the paths of a set's images, relative to its folder, in order.

    Args:
        folder: of a stage `synthesise` whose table `files` is written.
        images: that its selection is of.
    """
    place = os.path.relpath(images.root, folder.resolve())
    for batch in Table(folder, FILES).batches(["name", "written"]):
        for name, written in zip(batch["name"], batch["written"], strict=True):
            yield name if written else os.path.normpath(Path(place) / name)


def _fill(work: Work, manifest: Manifest, table: Table, images: Images, progress: bool) -> Made:
    """Write the images that are missing, the tables and the list."""
    own = int(manifest.parameters["patches"])
    stitched = manifest.parameters["kind"] == "patch"
    indexed = images.manifest.counts
    full = {
        "images_full": int(indexed["images"] - indexed.get("unreadable", 0)),
        "pixels_full": int(manifest.counts["pixels_full"]),
        "bytes_full": int(manifest.counts.get("bytes_full", indexed["bytes"])),
    }
    limited = work.parameters["storage"] == "bytes" and work.parameters["method"] != "all"
    most = pixel_budget(float(work.parameters["ratio"]), full["bytes_full"]) if limited else None
    logged = Logged()
    total = int(manifest.counts["images"])
    with (
        ThreadPoolExecutor(WORKERS) as pool,
        bar(total, "synthesise", "image", shown=progress) as done,
    ):
        if stitched:
            (work.folder / FOLDER).mkdir(exist_ok=True)
            chunk = CHUNK if most is None else FEW
            files = _stitched(work.folder, images, table, own, chunk, pool, done)
        else:
            files = _whole(work.folder, images, table, done)
        write_table(work.folder, FILES, _within(files, most, work.folder, logged), FILE_COLUMNS)
    made = Table(work.folder, FILES)
    if stitched:
        proposer = str(manifest.parameters["proposer"])
        sources = _sources(table, own, made.rows, proposer, manifest.seed or 0)
        write_table(work.folder, SOURCES, sources, SOURCE_COLUMNS)
    keep_list(work.folder / DATA_LIST, lambda: listed(work.folder, images))
    set_sheet(work.folder / "contact.png", listed(work.folder, images), made.rows)
    counts = {
        "images": made.rows,
        "patches": made.rows * own if stitched else 0,
        **logged.counts,
        **full,
        "storage_ratio": logged.counts["pixels"] / full["pixels_full"],
        "bytes_ratio": logged.counts["bytes"] / full["bytes_full"],
    }
    if most is not None:
        counts["left_out"] = total - made.rows
    return Made(counts)


def _within(
    batches: Iterable[dict[str, Any]], most: int | None, folder: Path, logged: Logged
) -> Iterator[dict[str, Any]]:
    """Keep the first images whose files take at most so many bytes.

    Those beyond are deleted.

    Raises:
        ValueError: not even the first one fits.
    """
    left = most
    for batch in batches:
        sizes = np.asarray(batch["bytes"], np.int64)
        fits = len(sizes)
        if left is not None:
            fits = int(np.searchsorted(np.cumsum(sizes), left, side="right"))
            left -= int(sizes[:fits].sum())
        part = {name: column[:fits] for name, column in batch.items()}
        area = np.asarray(part["height"], np.int64) * np.asarray(part["width"], np.int64)
        logged.add("pixels", int(area.sum()))
        logged.add("bytes", int(sizes[:fits].sum()))
        for name, written in zip(batch["name"][fits:], batch["written"][fits:], strict=True):
            if written:
                (folder / name).unlink()
        if fits:
            yield part
        if fits < len(sizes):
            break
    if not logged.counts.get("bytes"):
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        raise ValueError(
            f"the set may take {most} bytes, in which not even its first image fits "
            f"({sizes[0]} bytes); raise the ratio or count storage in pixels"
        )


def cells(size: tuple[int, int], patches: int) -> list[Box]:
    """Tile an image by a square grid.

    Cells are (top, left, height, width), row by row.

    Args:
        size: height and width of the image.
        patches: a square number.
    """
    side = round(patches**0.5)
    rows, columns = ([length * k // side for k in range(side + 1)] for length in size)
    return [
        (top, left, bottom - top, right - left)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]


def mosaic(parts: list[tuple[Pixels, Box]], size: tuple[int, int]) -> Pixels:
    """Make one image of the boxes of several.

    Args:
        parts: images (H, W, C) and the box of each, a square number of them.
        size: height and width of the result.

    Returns:
        Shape (*size, C).
    """
    made = np.zeros((*size, parts[0][0].shape[2]), np.uint8)
    for (pixels, box), (top, left, height, width) in zip(
        parts, cells(size, len(parts)), strict=True
    ):
        made[top : top + height, left : left + width] = cut(pixels, box, (height, width))
    return made


def _sources(
    table: Table, group: int, images: int, proposer: str, seed: int
) -> Iterator[dict[str, Any]]:
    columns = ["order", "patch", "image", "top", "left", "height", "width", "margin"]
    for batch in table.batches(columns, stop=images * group):
        order = batch.pop("order")
        count = len(order)
        yield batch | {
            "synthetic": order // group,
            "place": (order % group).astype(np.int8),
            "proposer": [proposer] * count,
            "seed": np.full(count, seed),
        }


def _stitched(
    folder: Path,
    images: Images,
    table: Table,
    group: int,
    chunk: int,
    pool: ThreadPoolExecutor,
    bar: Any,
) -> Iterator[dict[str, Any]]:
    def make(name: str, parts: list[tuple[str, int, Box]], size: tuple[int, int]) -> None:
        path = folder / name
        if not path.is_file():
            read = [(read_image(images.root, one, frame), box) for one, frame, box in parts]
            made = mosaic(read, size)
            grey = bool(np.all(made == made[:, :, :1]))
            write_png(path, made[:, :, 0] if grey else made)
        bar.update()

    number = 0
    for start in range(0, table.rows, chunk * group):
        rows = np.arange(start, min(start + chunk * group, table.rows))
        boxes = table.take(rows, ["image", "top", "left", "height", "width"])
        named = images.table.take(boxes["image"], ["name", "frame", "height", "width"])
        parts = [
            (str(name), int(frame), (int(top), int(left), int(height), int(width)))
            for name, frame, top, left, height, width in zip(
                named["name"],
                named["frame"],
                *(boxes[key] for key in ("top", "left", "height", "width")),
                strict=True,
            )
        ]
        groups = [parts[k : k + group] for k in range(0, len(parts), group)]
        sizes = [
            (int(height), int(width))
            for height, width in zip(named["height"][::group], named["width"][::group], strict=True)
        ]
        names = [f"{FOLDER}/{number + k:08d}.png" for k in range(len(groups))]
        list(pool.map(make, names, groups, sizes))
        yield _file_rows(folder, number, names, sizes)
        number += len(groups)


def _whole(folder: Path, images: Images, table: Table, bar: Any) -> Iterator[dict[str, Any]]:
    number = 0
    for batch in table.batches(["image"]):
        found = images.table.take(
            batch["image"], ["name", "frame", "height", "width", "bytes", "sha256"]
        )
        rows = []
        for name, frame, height, width, size, sha in zip(*found.values(), strict=True):
            record = {"bytes": int(size), "sha256": sha}
            if frame != STILL:
                place = folder / FOLDER / f"{number:08d}.png"
                if not place.is_file():
                    write_png(place, read_image(images.root, name, int(frame)))
                name = f"{FOLDER}/{place.name}"
                record = file_record(place)
            own = (number, name, frame != STILL, height, width)
            rows.append((*own, record["bytes"], record["sha256"]))
            number += 1
            bar.update()
        yield dict(zip(FILE_COLUMNS, zip(*rows, strict=True), strict=True))


def _file_rows(
    folder: Path, first: int, names: list[str], sizes: list[tuple[int, int]]
) -> dict[str, Any]:
    records = [file_record(folder / name) for name in names]
    return {
        "image": np.arange(first, first + len(names)),
        "name": names,
        "written": np.ones(len(names), bool),
        "height": [height for height, _ in sizes],
        "width": [width for _, width in sizes],
        "bytes": [one["bytes"] for one in records],
        "sha256": [one["sha256"] for one in records],
    }


def check_set(folder: str | Path) -> None:
    """Check that a set's images are those that its stage recorded.

    The images are those that the list of the set names.

    Sizes and times are compared; what is newer than the last look is hashed, see `changed_image`.

    Args:
        folder: of a finished stage `synthesise`.

    Raises:
        ValueError: the first image that is gone or has changed, or a list that names others.
    """
    path = Path(folder)
    changed = changed_image(_recorded(path), path / CLAIM)
    if changed is not None:
        image, what = changed
        since = " since the set was made" if what == "has changed" else ""
        raise ValueError(
            f"image {image} of the set {folder} {what}{since}; {remedy(path / DATA_LIST)}"
        )


def _recorded(folder: Path) -> Iterator[Listed]:
    """List every image where the list says.

    A set may be copied without its index.
    """
    with (folder / DATA_LIST).open(encoding="utf-8", newline="\n") as lines:
        for line, row in zip_longest(lines, _rows(Table(folder, FILES))):
            listed = (line or "").removesuffix("\n")
            name, written, size, sha256 = row or ("", True, 0, "")
            # Images that lie elsewhere are listed by the path to them, whose last part is the same.
            same = line == list_line(name) if written else Path(listed).name == Path(name).name
            if not row or not same:
                found = f"names {listed!r}" if line else "ends"
                wrote = repr(name) if row else "no more"
                raise ValueError(
                    f"{folder / DATA_LIST} {found} where its stage wrote {wrote}; it has changed "
                    "since: run python -m pretrain_jax synthesise again, which writes it anew"
                )
            yield Listed(folder / listed, size, sha256)


def _rows(table: Table) -> Iterator[tuple[str, bool, int, str]]:
    for batch in table.batches(["name", "written", "bytes", "sha256"]):
        for name, written, size, sha256 in zip(*batch.values(), strict=True):
            yield str(name), bool(written), int(size), str(sha256)
