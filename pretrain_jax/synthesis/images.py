"""Runs the stage `index`, the table of a source's images.

The table has their sizes, bytes, hashes and labels.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardset.checks import check_integer, check_range
from hardset.cli import printable
from hardset.folder import CLAIM, Input, Made, Manifest, Stage
from hardset.listing import stream_record
from pretrain_jax.data import BadPixelsError, UnreadableImageError, read_pixels
from pretrain_jax.data.decode import TooLargeImageError
from pretrain_jax.data.listing import (
    STILL,
    Located,
    Tally,
    image_root,
    iterate_images,
    split_layout,
)
from pretrain_jax.data.names import VIDEO_SUFFIXES, suffix_of
from pretrain_jax.data.opening import (
    Remark,
    regular_file,
    remark_notes,
)
from pretrain_jax.data.options import READING, Pages, reading, set_reading
from pretrain_jax.data.skipping import reason_line, reason_of, told
from pretrain_jax.data.video import frame_sizes
from pretrain_jax.synthesis.labels import check_same_labels
from pretrain_jax.synthesis.parts import check_unchanged
from pretrain_jax.synthesis.sheets import index_sheet
from pretrain_jax.synthesis.source import check_outside, survey
from pretrain_jax.synthesis.tables import Logged, Make, Shards

IMAGE_COLUMNS = {
    "image": "int64",
    "name": "string",
    "frame": "int32",
    "height": "int32",
    "width": "int32",
    "bytes": "int64",
    "sha256": "string",
    "group": "string",
    "label": "string",
}
INDEX = Stage(
    "index",
    inputs=("source", "root"),
    parameters=("frame_stride", "images", "shards", "layout", *READING),
)
ROWS = 1024
SHOWN = 10  # sentences of an error
# Images with these reasons never stop the index where no share is named.
TOLERATED = ("unreadable", "too large")


def index_images(
    source: str | Path,
    out: str | Path,
    *,
    frame_stride: int = 1,
    shards: int | None = None,
    shard: int | None = None,
    progress: bool = False,
    skip_at_most: float | None = None,
    max_megapixels: float | None = None,
    pages: Pages | None = None,
    bits: int | None = None,
) -> Manifest | None:
    """List the images of a source.

    Of each it gives name, frame, size in pixels and bytes, sha256, group and label.

    Every image is decoded once. An image of height and width 0 is one that cannot be decoded.
    skipped.txt names every file that is of no use.

    Args:
        source: a folder, LAYOUT:FOLDER, an image list, an image or a video, see
            `pretrain_jax.data.listing.entries`.
        out: the stage's folder.
        frame_stride: every how many frames of a video are taken.
        shards: of the table; default one for 5000 images.
        shard: the one that this process makes; default all.
        progress: whether to draw a progress bar.
        skip_at_most: the share of the files that may be of no use. Without it any number
            cannot be decoded, but no link may be broken, no name of another kind than lists hold,
            no pixel NaN or out of range, and no image one pixel wide or high.
        max_megapixels: of the largest image that is decoded, also by the stages that read the
            index; larger ones are unreadable. Default 100.
        pages: whether "all" pages of a file (TIFF, animations) are images, each with its number as
            frames of videos have, or the "first" only; also for later stages. Default all.
        bits: that 16-bit images use whose file does not say, 10 to 16; also for later stages.

    Returns:
        The manifest with the counts images, unreadable, pixels and bytes; None while other
        processes' shards are missing.

    Raises:
        ValueError: no readable image, files of no use (the folder is empty again then), a file
            listed twice, arguments out of range; the index is finished and an image or its label
            has changed since.
    """
    check_integer("frame_stride", frame_stride, 1, 2**31)
    if skip_at_most is not None:
        check_range("skip_at_most", skip_at_most, 0.0, 1.0)
    set_reading(max_megapixels=max_megapixels, pages=pages, bits=bits)
    layout, path = split_layout(source)
    check_outside(source, out)
    tally = Tally()
    found = survey(source, frame_stride, tally)
    for linked in tally.linked:
        check_outside(linked, out)
    divided = Shards.of(found.images, shards, shard)

    def again(_: Manifest) -> tuple[str, ...]:
        check_unchanged(Path(out), image_root(source))
        check_same_labels(out, source, frame_stride)
        return ()

    work = INDEX.open(
        out,
        {"frame_stride": frame_stride, "images": found.images, "shards": divided.count}
        | ({"layout": layout} if layout else {})
        | reading().parameters(),
        None,
        {"source": Input(found.digest, path), "root": Input(None, image_root(source))},
        shared=shard is not None,
    )
    return work.run(
        lambda work: _fill(
            work.folder, source, frame_stride, divided, progress, tally, skip_at_most
        ),
        again,
    )


def _fill(
    folder: Path,
    source: str | Path,
    frame_stride: int,
    divided: Shards,
    progress: bool,
    tally: Tally,
    share: float | None,
) -> Made | None:
    """Make the missing shards of this process.

    Where all shards are there, it sums up what they counted.
    """
    root = image_root(source)

    def begin() -> Make:
        images = enumerate(iterate_images(source, frame_stride, Tally()))

        def make(
            _: int, first: int, end: int, logged: Logged, bar: Any
        ) -> Iterator[dict[str, Any]]:
            wanted = (image for number, image in images if number >= first)
            return _rows(root, itertools.islice(wanted, end - first), first, logged, bar)

        return make

    made = divided.fill(folder, IMAGE_COLUMNS, begin, name="index", unit="image", progress=progress)
    if made is None:
        return None
    table, total = made
    total.skipped = tally.lines() + total.skipped
    try:
        _check_useful(source, total, table.rows + len(tally.refused), len(tally.refused), share)
    except ValueError:
        for written in folder.iterdir():  # so that the same command begins anew
            if written.name != CLAIM and not written.name.startswith("."):
                written.unlink()
        raise
    index_sheet(folder / "contact.png", table, root)
    counts = {"images": table.rows, "unreadable": 0, "ungrouped": 0} | total.counts
    counts.pop("unusable", None)
    notes = total.write_skipped(folder) + remark_notes(_remarks(total.notes))
    if tally.refused:
        counts["names_refused"] = len(tally.refused)
    if tally.passed_over:
        counts["passed_over"] = tally.passed_over.total()
    notes += tally.notices()
    if counts["ungrouped"]:
        notes.append(
            f"{counts['ungrouped']} of {table.rows} images are of no known group (video, "
            "sequence or patient): halves and the leakage check take each of them by itself."
        )
    return Made(counts, notes, seconds=total.seconds, compile_seconds=total.compile_seconds)


def _check_useful(
    source: str | Path, total: Logged, files: int, refused: int, share: float | None
) -> None:
    """Check that no more files are of no use than may be.

    Raises:
        ValueError: the first ones, and how many there are.
    """
    unusable = total.counts.get("unusable", 0) + refused
    of_no_use = total.counts.get("unreadable", 0) + refused
    if not total.counts.get("pixels"):
        first = "; ".join(printable(one) for one in total.skipped[:SHOWN])
        raise ValueError(f"none of the {files} images of {source} can be read: {first}")
    if (share is None and unusable) or (share is not None and of_no_use > share * files):
        shown = total.skipped
        if share is None:  # what merely cannot be decoded is no reason
            shown = [one for one in shown if reason_of(one) not in TOLERATED]
        more = f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        allowed = "" if share is None else f", more than the share {share:g} that may be skipped"
        raise ValueError(
            f"{len(shown)} of the {files} files of {source} cannot be used{allowed}: "
            f"{told(shown)}. These are "
            f"{'; '.join(printable(one) for one in shown[:SHOWN])}{more}. Mend them or take them "
            "out, or let a share be skipped with --skip-at-most"
        )


def _remarks(notes: list[str]) -> list[tuple[str, Remark]]:
    """Read what shards have noted.

    A note has name, kind and text, with tabs between.
    """
    return [(name, Remark(kind, text)) for name, kind, text in (one.split("\t") for one in notes)]


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
                record, record_of = _record(path), image.name
            if record["sha256"]:
                size, reason = _size(path, image, logged)
            else:
                size, reason = (0, 0), reason_line("missing", f"image {path}: {_missing(path)}")
                logged.add("unusable")
            if reason:  # without the place of the images, which is no part of the result
                logged.skip(reason.replace(f"{root}{os.sep}", ""))
            if not image.group:
                logged.add("ungrouped")
            share = image.frame if image.frame != STILL else 0
            # The shares of a file's frames or pages add up to its bytes.
            own = record["bytes"] * (share + 1) // image.frames
            own -= record["bytes"] * share // image.frames
            known = (*size, own, record["sha256"], image.group, image.label)
            rows.append((number, image.name, image.frame, *known))
            logged.add("pixels", size[0] * size[1])
            logged.add("bytes", own)
            number += 1
        bar.update(len(rows))
        yield dict(zip(IMAGE_COLUMNS, zip(*rows, strict=True), strict=True))


def _record(path: Path) -> dict[str, Any]:
    """Record bytes and sha256 of a file.

    Of what is no file they are 0 and "".
    """
    try:
        with regular_file(path) as file:
            return stream_record(file)
    except (OSError, ValueError):
        return {"bytes": 0, "sha256": ""}


def _missing(path: Path) -> str:
    """Say why there is no such file."""
    try:
        regular_file(path).close()
    except ValueError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    return "it is gone since"


def _size(path: Path, image: Located, logged: Logged) -> tuple[tuple[int, int], str]:
    """Measure height and width as displayed.

    Where there are none, they are (0, 0), and the reason is given.
    """
    if image.frame != STILL and suffix_of(image.name) in VIDEO_SUFFIXES:
        sizes = frame_sizes(str(path))
        size = sizes[image.frame] if image.frame < len(sizes) else None
        if size is not None:
            return size, ""
    remarks: list[Remark] = []
    try:
        # In one channel, which takes the least memory: the size is that of three.
        found = read_pixels(str(path), image.frame, channels=1, remarks=remarks)
    except BadPixelsError as error:
        logged.add("unusable")
        return (0, 0), reason_line(error.reason, str(error))
    except UnreadableImageError as error:
        if isinstance(error, TooLargeImageError):
            logged.add("too_large")
        return (0, 0), reason_line(error.reason, str(error))
    height, width = found.shape[:2]
    if min(height, width) == 1:
        logged.add("unusable")
        sentence = f"image {path} is {height} x {width} pixels: no picture"
        return (0, 0), reason_line("no picture", sentence)
    for remark in remarks:
        logged.add(remark.kind)
        place = image.name if image.frame == STILL else f"{image.name}#{image.frame}"
        logged.notes.append(f"{place}\t{remark.kind}\t{remark.text}")
    return (height, width), ""
