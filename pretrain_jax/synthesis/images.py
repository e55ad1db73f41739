"""Stage `index`: the table of a source's images, with their sizes, bytes and hashes."""

import itertools
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hardset.checks import check_integer
from pretrain_jax.data import UnreadableImageError, read_pixels
from pretrain_jax.data.listing import STILL, Located, image_root, iterate_images, split_layout
from pretrain_jax.data.video import frame_sizes
from pretrain_jax.stages.files import Recorded, changed_file, file_record
from pretrain_jax.stages.manifest import (
    CLAIM,
    Manifest,
    Stage,
    digest,
    open_stage,
    read_manifest,
)
from pretrain_jax.stages.tables import (
    Logged,
    Table,
    missing_shards,
    read_logs,
    shard_range,
    shards_to_do,
    write_shard,
)
from pretrain_jax.synthesis.sheets import index_sheet
from pretrain_jax.synthesis.source import check_outside, survey

__all__ = ["IMAGE_COLUMNS", "Images", "automatic_shards", "index_images"]

IMAGE_COLUMNS = {
    "image": "int64",
    "name": "string",
    "frame": "int32",
    "height": "int32",
    "width": "int32",
    "bytes": "int64",
    "sha256": "string",
    "group": "string",
}
ROWS = 1024
ROWS_OF_SHARD = 5000
SHOWN_NAMES = 3


class Images:
    """The images of a finished index.

    Args:
        folder: of stage `index`.

    Attributes:
        folder: the same.
        manifest: of the stage.
        table: its rows, see `IMAGE_COLUMNS`; height and width are 0 where an image is unreadable.
        root: the folder to which names are relative.

    Raises:
        ValueError: the stage is not finished, or the images' folder is gone.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(folder, "index")
        self.table = Table(folder)
        self.root = (self.folder.resolve() / self.manifest.locations["root"]).resolve()
        if not self.root.is_dir():
            raise ValueError(
                f"the images of {folder} are not in {self.root} any more; put them back or index "
                "them anew in another folder"
            )

    def check_unchanged(self) -> None:
        """Check, once in a process, that the images are those that the index read.

        Sizes and times are compared; what is newer than the index is hashed, see `changed_file`.

        Raises:
            ValueError: the first image that is gone or has changed.
        """
        _check_once(self.folder.resolve(), self.root, digest(self.manifest))

    def pixel_counts(self) -> NDArray[np.int64]:
        """height x width of every image, by its number."""
        parts = [
            batch["height"].astype(np.int64) * batch["width"]
            for batch in self.table.batches(["height", "width"])
        ]
        return np.concatenate(parts)


def automatic_shards(rows: int) -> int:
    """One shard for 5000 rows: what a killed process loses at most."""
    return max(1, -(-rows // ROWS_OF_SHARD))


def index_images(
    source: str | Path,
    out: str | Path,
    *,
    frame_stride: int = 1,
    shards: int | None = None,
    shard: int | None = None,
    progress: bool = False,
) -> Manifest | None:
    """List the images of a source: name, frame, size in pixels and bytes, sha256, group.

    Every image is decoded once: an image of height and width 0 cannot be.

    Args:
        source: a folder, LAYOUT:FOLDER, an image list, an image or a video, see
            `pretrain_jax.data.listing.entries`.
        out: the stage's folder.
        frame_stride: every how many frames of a video are taken.
        shards: of the table; default one for 5000 images.
        shard: the one that this process makes; default all.
        progress: whether to draw a progress bar.

    Returns:
        The manifest with the counts images, unreadable, pixels and bytes; None while other
        processes' shards are missing.

    Raises:
        ValueError: no readable image, a file listed twice, arguments out of range; the index is
            finished and an image has changed since.
    """
    check_integer("frame_stride", frame_stride, 1, 2**31)
    layout, path = split_layout(source)
    check_outside(source, out)
    found = survey(source, frame_stride)
    count = automatic_shards(found.images) if shards is None else shards
    mine = shards_to_do(shard, count)
    stage = open_stage(
        out,
        "index",
        {"frame_stride": frame_stride, "images": found.images, "shards": count}
        | ({"layout": layout} if layout else {}),
        None,
        {"source": found.digest},
        locations={"source": path, "root": image_root(source)},
    )
    if isinstance(stage, Manifest):
        _check_unchanged(Path(out), image_root(source))
        return stage
    with stage:
        return _fill(stage, source, frame_stride, mine, count, progress)


@lru_cache(maxsize=16)
def _check_once(folder: Path, root: Path, _: str) -> None:
    """`_check_unchanged`, once in a process for an index, whose digest is the last argument."""
    _check_unchanged(folder, root)


def _check_unchanged(folder: Path, root: Path) -> None:
    """Compare the images below `root` with a finished index."""
    path = changed_file(_recorded(Table(folder), root), folder / CLAIM)
    if path is not None:
        what = "has changed since it was indexed" if path.is_file() else "is gone"
        raise ValueError(
            f"image {path} {what} in {folder}; put it back, or start anew with another folder"
        )


def _recorded(table: Table, root: Path) -> Iterator[Recorded]:
    """Every file of an index once; the bytes of a video are divided among its frames."""
    before = ""
    for batch in table.batches(["name", "frame", "bytes", "sha256"]):
        columns = (batch[name] for name in ("name", "frame", "bytes", "sha256"))
        for name, frame, size, sha256 in zip(*columns, strict=True):
            if name != before:
                yield Recorded(root / name, int(size) if frame == STILL else None, sha256)
            before = name


def _fill(
    stage: Stage,
    source: str | Path,
    frame_stride: int,
    mine: list[int],
    count: int,
    progress: bool,
) -> Manifest | None:
    """Make the missing ones of the shards `mine`; finish where all `count` are there."""
    total_images = int(stage.parameters["images"])
    mine = [one for one in mine if one in missing_shards(stage.folder, count)]
    images, root = iterate_images(source, frame_stride), image_root(source)
    done = 0
    with tqdm(total=total_images, desc="index", unit="image", disable=not progress) as bar:
        for one in mine:
            first, end = shard_range(total_images, one, count)
            own = itertools.islice(images, first - done, end - done)
            logged = Logged()
            rows = _rows(root, own, first, logged, bar)
            write_shard(stage.folder, one, count, rows, IMAGE_COLUMNS, logged=logged)
            done = end
    if missing_shards(stage.folder, count):
        return None
    total = read_logs(stage.folder, count)
    table = Table(stage.folder)
    if not total.counts.get("pixels"):
        raise ValueError(f"none of the {total_images} images of {source} can be read")
    index_sheet(stage.folder / "contact.png", table, root)
    counts = {"images": total_images, "unreadable": 0, "ungrouped": 0} | total.counts
    if counts["ungrouped"]:
        total.notes.append(
            f"{counts['ungrouped']} of {total_images} images are of no known group (video, "
            "sequence or patient): halves and the leakage check take each of them by itself."
        )
    return stage.finish(
        counts,
        total.notes,
        seconds=total.seconds,
    )


def _rows(
    root: Path, images: Iterator[Located], first: int, logged: Logged, bar: Any
) -> Iterator[dict[str, Any]]:
    record: dict[str, Any] = {}
    record_of = ""
    number = first
    while part := list(itertools.islice(images, ROWS)):
        rows = []
        for image in part:
            path = root / image.name
            if image.name != record_of:
                record, record_of = file_record(path), image.name
            size, trouble = _size(path, image.frame)
            if trouble:
                logged.add("unreadable")
                logged.notes += [trouble] if len(logged.notes) < SHOWN_NAMES else []
            if not image.group:
                logged.add("ungrouped")
            share = image.frame if image.frame != STILL else 0
            # The shares of a video's frames add up to its bytes.
            own = record["bytes"] * (share + 1) // image.frames
            own -= record["bytes"] * share // image.frames
            rows.append(
                (number, image.name, image.frame, *size, own, record["sha256"], image.group)
            )
            logged.add("pixels", size[0] * size[1])
            logged.add("bytes", own)
            number += 1
        bar.update(len(rows))
        yield dict(zip(IMAGE_COLUMNS, zip(*rows, strict=True), strict=True))


def _size(path: Path, frame: int) -> tuple[tuple[int, int], str]:
    """Height and width as displayed, from the decoded pixels; (0, 0) and why there are none."""
    if frame != STILL:
        sizes = frame_sizes(str(path))
        size = sizes[frame] if frame < len(sizes) else None
        if size is not None:
            return size, ""
    try:
        # In one channel, which takes the least memory: the size is that of three.
        height, width = read_pixels(str(path), frame, channels=1).shape[:2]
    except UnreadableImageError as error:
        return (0, 0), str(error)
    return (height, width), ""
