"""Writes what an import makes: PNG files, their list and their spacing.

Both imports are filled here. They go on where they were killed: of every finished unit, a series
or a file, a record is kept until the end.
"""

import csv
import errno
import io
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_range
from hardset.datafile import write_bytes_atomic
from hardset.folder import Made, Manifest, Work
from hardset.listing import read_record, write_record
from hardset.progress import bar
from pretrain_jax.data.listing import list_line, write_list
from pretrain_jax.pictures import write_png

IMAGES, LIST, SPACING = "images", "images.txt", "spacing.csv"
COLUMNS = ("image", "row_mm", "column_mm", "slice_mm")
RECORDS = ".units"
SHOWN, LISTED = 10, 1000  # reasons in a message, and in the manifest
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}


class Row(NamedTuple):
    """Describes an image that was written.

    Attributes:
        order: numbers and texts after which the list is sorted, of the same types in all rows.
        name: of the PNG file, relative to the stage's folder.
        group: of the list.
        spacing: distances of rows, columns and slices in mm, None where unknown.
    """

    order: Sequence[float | str]
    name: str
    group: str
    spacing: Sequence[float | None]


@dataclass
class Part:
    """Collects what was made of some files.

    Attributes:
        rows: of the images.
        skipped: how many files gave no image, by the reason.
        counts: what else is counted.
    """

    rows: list[Row] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Part") -> None:
        """Add another part to this one."""
        self.rows += other.rows
        self.skipped += other.skipped
        self.counts.update(other.counts)


class Unit(NamedTuple):
    """Names files that are imported together.

    Attributes:
        key: a name that tells nobody and is the same the next time.
        files: how many they are.
        make: writes their images below a folder.
    """

    key: str
    files: int
    make: Callable[[Path], Part]


def write_image(
    out: Path,
    name: str,
    pixels: NDArray[np.uint8],
    *,
    folder: str,
    group: str,
    order: Sequence[float | str],
    spacing: Iterable[float],
) -> Row:
    """Write an image into a folder of the stage's images, and describe it.

    Args:
        out: the stage's folder.
        name: of the image, without an ending.
        pixels: (H, W), (H, W, 1) or (H, W, 3).
        folder: below the stage's images, "" for none.
        group: see `Row`; likewise `order`.
        order: see `Row`.
        spacing: as there, with NaN where unknown.
    """
    own = "/".join(part for part in (IMAGES, folder, f"{name}.png") if part)
    write_png(out / own, pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels)
    known = [float(f"{one:.6g}") if math.isfinite(one) else None for one in spacing]
    return Row(order, own, group, known)


def files_below(root: Path) -> list[Path]:
    """Find the files of a folder that are not hidden, sorted.

    Links to folders are not followed. A file is itself.

    Raises:
        ValueError: there is no such source, or a folder in it cannot be read. It is not named.
    """
    if not root.exists():
        raise ValueError("the source of scans does not exist; give a folder or a file")

    def refuse(error: OSError) -> None:
        raise ValueError(f"a folder of the source of scans cannot be read: {error.strerror}")

    def found() -> Iterator[Path]:
        if not root.is_dir():
            yield root
            return
        for folder, folders, names in os.walk(root, onerror=refuse):
            folders[:] = [one for one in folders if not one.startswith(".")]
            for name in names:
                path = Path(folder, name)
                if not name.startswith(".") and path.is_file():
                    yield path

    return sorted(found())


def reason_of(error: Exception) -> str:
    """Return why a file gives no image, in words that identify nobody.

    Raises:
        OSError: it is not the file's fault, as of a full disk.
    """
    if isinstance(error, OSError):
        if error.errno in FULL:
            raise error
        return error.strerror or type(error).__name__
    return str(error)


def check_share(skip_at_most: float | None) -> None:
    """Check the share of the files that may give no image.

    Raises:
        ValueError: outside [0, 1].
    """
    if skip_at_most is not None:
        check_range("skip_at_most", skip_at_most, 0.0, 1.0)


def run_import(
    work: Work,
    files: int,
    plan: Callable[[], tuple[Part, Sequence[Unit]]],
    counted: Callable[[Part], dict[str, int]],
    noted: Callable[[dict[str, int]], list[str]],
    *,
    skip_at_most: float | None,
    progress: bool,
) -> Manifest:
    """Fill the folder of an import, and return the manifest.

    Args:
        work: of the stage.
        files: how many there are.
        plan: says which of them give no image, and which units the others are.
        counted: counts for the manifest, of all that was made.
        noted: sentences for it, of these counts.
        skip_at_most: the share of the files that may give no image; None for any.
        progress: whether to draw a progress bar.

    Raises:
        ValueError: no file gives an image, or too many give none; says why.
    """

    def fill(work: Work) -> Made:
        whole, units = plan()
        _check(whole.skipped, files, skip_at_most)
        records = work.folder / RECORDS
        with bar(
            sum(unit.files for unit in units), work.stage.name, "file", shown=progress
        ) as done:
            for unit in units:
                whole.add(_resumed(records / f"{unit.key}.json", unit, work))
                done.update(unit.files)
                _check(whole.skipped, files, skip_at_most)
        if not whole.rows:
            shutil.rmtree(records, ignore_errors=True)
            if not files:
                raise ValueError("the source of scans holds no file; give another folder")
            raise ValueError(
                f"none of the {files} file(s) gives an image: {'; '.join(_reasons(whole.skipped))}"
            )
        whole.rows.sort(key=lambda row: (*row.order, row.name))
        write_list(work.folder / LIST, (list_line(row.name, row.group) for row in whole.rows))
        _write_spacing(work.folder / SPACING, whole.rows)
        counts = {"files": files, "images": len(whole.rows)} | counted(whole)
        counts["skipped"] = whole.skipped.total()
        notes = [f"skipped {one}" for one in _reasons(whole.skipped, LISTED)]
        return Made(counts, notes + noted(counts), spent=(RECORDS,))

    def again(manifest: Manifest) -> tuple[()]:
        _check(Counter({"see its notes": int(manifest.counts["skipped"])}), files, skip_at_most)
        return ()

    return work.run(fill, again)


def _resumed(record: Path, unit: Unit, work: Work) -> Part:
    """Make a unit, unless it is recorded as made.

    The record is that of a process that was killed.
    """
    # Of work with other parameters a record may be left where nothing was written.
    whose = {"parameters": work.parameters, "inputs": work.claim["inputs"]}
    try:
        found: dict[str, Any] = read_record(record)
        part = Part(
            [Row(*one) for one in found["rows"]],
            Counter(found["skipped"]),
            Counter(found["counts"]),
        )
        if found["whose"] == whose and all((work.folder / row.name).is_file() for row in part.rows):
            return part
    except (ValueError, KeyError, TypeError):
        pass  # there is none, or it is damaged
    part = unit.make(work.folder)
    record.parent.mkdir(parents=True, exist_ok=True)
    write_record(record, {"whose": whose} | vars(part))
    return part


def _check(skipped: Counter[str], files: int, skip_at_most: float | None) -> None:
    if skip_at_most is not None and skipped.total() > skip_at_most * files:
        raise ValueError(
            f"{skipped.total()} of {files} file(s) give no image, more than --skip-at-most "
            f"{skip_at_most:g} allows: {'; '.join(_reasons(skipped))}"
        )


def _reasons(skipped: Counter[str], most: int = SHOWN) -> list[str]:
    found = [f"{count} file(s): {reason}" for reason, count in skipped.most_common(most)]
    rest = skipped.total() - sum(count for _, count in skipped.most_common(most))
    return found + ([f"{rest} file(s) for further reasons"] if rest else [])


def _write_spacing(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows((row.name, *row.spacing) for row in rows)
    write_bytes_atomic(path, text.getvalue().encode())
