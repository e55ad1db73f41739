"""Runs the stage `dicom`, which makes PNG files and an image list of DICOM files.

Neither names of files nor anything that is written identifies a patient. What is burned into the
pixels stays there.
"""

import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import require
from hardset.folder import Input, Manifest, Stage
from hardset.progress import bar
from pretrain_jax.data.dicom import DicomHeader, grey_counts, is_dicom, read_dicom, read_header
from pretrain_jax.data.grey import Counted, check_window, robust_range
from pretrain_jax.data.opening import regular_file
from pretrain_jax.data.options import reading
from pretrain_jax.data.privacy import project_salt, salted_hash
from pretrain_jax.synthesis.importing.writing import (
    Part,
    Row,
    Unit,
    check_share,
    files_below,
    reason_of,
    run_import,
    write_image,
)
from pretrain_jax.synthesis.source import check_outside

IMPORT = Stage(
    "dicom",
    inputs=("source", "salt"),
    parameters=("window", "refuse_burned_in", "files", "max_megapixels"),
)
BURNED_IN = "BurnedInAnnotation says that the pixels show who the patient is"
OTHER = "it is no DICOM file"
SEVERAL = "another file has the same SOPInstanceUID"
SAME_PLANE = 0.01  # largest difference of the cosines of slices that are parallel
Window = tuple[float, float] | None


class _File(NamedTuple):
    """Is a file of a series, with its images' stacks: slices that are parallel."""

    path: Path
    header: DicomHeader
    stacks: list[int]
    steps: list[float]  # from slice to slice, in mm


def import_dicom(
    source: str | Path,
    out: str | Path,
    *,
    salt: str | Path,
    window: Window = None,
    refuse_burned_in: bool = False,
    skip_at_most: float | None = None,
    progress: bool = False,
) -> Manifest:
    """Make PNG files and an image list of a folder of DICOM files.

    The groups of the list are patients. Files are told by content, whatever their names are.
    `images.txt` in `out` is a source of images for all commands. In it come the series one after
    another, in a series its stacks of parallel slices, and the slices of a stack in the order of
    their positions. `spacing.csv` has the distances of rows, columns and slices. What is no image
    is counted by its reason, and not by its name, which often is that of a patient.

    Images without a window of their own are shown from the percentile 0.5 to 99.5 of all such
    images of their series. For it the series is decoded twice, and at most 65,536 counts are held.

    Args:
        source: a folder, which is searched recursively, or a file.
        out: the stage's folder.
        salt: file of the project's salt, outside `out`, see
            `pretrain_jax.data.privacy.project_salt`.
        window: centre and width, see `pretrain_jax.data.dicom.read_dicom`.
        refuse_burned_in: leave out images whose file says that its pixels identify the patient.
        skip_at_most: the share of the files that may give no image, in [0, 1]; None for any.
        progress: whether to draw a progress bar.

    Returns:
        The manifest with the counts files, images, patients, series, ungrouped, burned_in and
        skipped.

    Raises:
        ValueError: no file gives an image, too many give none, or an argument is out of range;
            says which.
        OSError: a folder cannot be read or written.
    """
    require("pydicom", "medical")
    check_window(window)
    check_share(skip_at_most)
    root = Path(source)
    check_outside(source, out)
    paths = files_below(root)
    key = project_salt(salt, out)
    listed = hmac.new(key, digestmod=hashlib.sha256)
    for path in paths:
        listed.update(os.fsencode(os.path.relpath(path, root)) + b"\0%d\n" % _size(path))
    work = IMPORT.open(
        out,
        {
            "window": None if window is None else list(window),
            "refuse_burned_in": refuse_burned_in,
            "files": len(paths),
            "max_megapixels": reading().max_megapixels,
        },
        None,
        # Without their places, which may hold names.
        {"source": Input(listed.hexdigest()), "salt": Input(salted_hash(key, "salt", ""))},
    )

    def noted(counts: dict[str, int]) -> list[str]:
        if not counts["burned_in"] or refuse_burned_in:
            return []
        return [
            f"{counts['burned_in']} file(s) say that their pixels show who the patient is; "
            "refuse_burned_in leaves them out."
        ]

    return run_import(
        work,
        len(paths),
        lambda: _plan(paths, key, window, refuse_burned_in, progress),
        _counts,
        noted,
        skip_at_most=skip_at_most,
        progress=progress,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is counted when it is read
        return -1


def _counts(whole: Part) -> dict[str, int]:
    names = ("series", "ungrouped", "burned_in")
    patients = len({row.group for row in whole.rows} - {""})
    return {"patients": patients} | {name: whole.counts[name] for name in names}


def _plan(
    paths: Sequence[Path], salt: bytes, window: Window, refuse_burned_in: bool, progress: bool
) -> tuple[Part, list[Unit]]:
    """Read all headers, and sort the files by their series."""
    part = Part()
    known: dict[str, str] = {}  # series by the name of an image
    series: dict[str, list[tuple[Path, DicomHeader]]] = {}
    with bar(len(paths), "headers", "file", shown=progress) as done:
        for path in paths:
            found = _header(path, salt)
            done.update(1)
            if isinstance(found, str):
                part.skipped[found] += 1
                continue
            part.counts["burned_in"] += found.burned_in
            if found.burned_in and refuse_burned_in:
                part.skipped[BURNED_IN] += 1
                continue
            name = _image(found)
            own = found.series or name
            # Of copies in one series the first one is taken that can be decoded.
            if known.setdefault(name, own) == own:
                series.setdefault(own, []).append((path, found))
            else:
                part.skipped[SEVERAL] += 1
    return part, [
        Unit(name, len(files), partial(_make, files=_stacked(files), salt=salt, window=window))
        for name, files in sorted(series.items())
    ]


def _image(header: DicomHeader) -> str:
    """Return the part of its images' names that tells a file from others."""
    return header.ids[0].partition("-")[0]


def _header(path: Path, salt: bytes) -> DicomHeader | str:
    """Read a header, or say why the file gives no image.

    The words identify nobody.
    """
    try:
        with regular_file(path) as file:
            if not is_dicom(file):
                return OTHER
        return read_header(path, salt)
    except (ValueError, OSError) as error:
        return reason_of(error)


def _stacked(files: Sequence[tuple[Path, DicomHeader]]) -> list[_File]:
    """Number the stacks of parallel slices of a series, and measure their steps."""
    planes = [plane for _, header in files for plane in header.planes]
    kinds: list[tuple[float, ...]] = []
    for along in sorted({plane.along for plane in planes}):
        if not any(_parallel(along, one) for one in kinds):
            kinds.append(along)
    number = {
        along: next(at for at, one in enumerate(kinds) if _parallel(along, one))
        for along in {plane.along for plane in planes}
    }
    places: dict[int, set[float]] = {}
    for plane in planes:
        places.setdefault(number[plane.along], set()).add(round(plane.position, 3))
    steps = {
        stack: float(np.median(np.diff(sorted(found)))) if kinds[stack] and len(found) > 1 else 0.0
        for stack, found in places.items()
    }
    return [
        _File(
            path,
            header,
            [number[plane.along] for plane in header.planes],
            [steps[number[plane.along]] or plane.spacing[2] for plane in header.planes],
        )
        for path, header in files
    ]


def _parallel(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and all(
        abs(a - b) <= SAME_PLANE for a, b in zip(one, other, strict=True)
    )


def _make(out: Path, files: Sequence[_File], salt: bytes, window: Window) -> Part:
    part = Part(skipped=Counter(), counts=Counter(series=0))
    between: Window = None
    if window is None and not all(one.header.windowed for one in files):
        between = robust_range(lambda: _grey(files))
    made: set[str] = set()
    for one in files:
        if _image(one.header) in made:
            part.skipped[SEVERAL] += 1
            continue
        try:
            found = read_dicom(one.path, salt, window=window, between=between)
        except (ValueError, OSError) as error:
            part.skipped[reason_of(error)] += 1
            continue
        made.add(_image(one.header))
        part.rows += [_row(out, one, frame, found.pixels[frame]) for frame in range(len(found.ids))]
        part.counts["ungrouped"] += 0 if found.group else len(found.ids)
    part.counts["series"] = int(bool(part.rows))
    return part


def _row(out: Path, one: _File, frame: int, pixels: NDArray[np.uint8]) -> Row:
    header, plane = one.header, one.header.planes[frame]
    return write_image(
        out,
        header.ids[frame],
        pixels,
        folder=header.series,
        group=header.group,
        order=(header.group, header.series, one.stacks[frame], plane.position, header.number),
        spacing=(*plane.spacing[:2], one.steps[frame]),
    )


def _grey(files: Sequence[_File]) -> Iterator[Counted]:
    """Count the grey values that are shown between percentiles."""
    made: set[str] = set()
    for one in files:
        if not one.header.windowed and _image(one.header) not in made:
            try:
                yield from grey_counts(one.path)
                made.add(_image(one.header))
            except (ValueError, OSError) as error:
                reason_of(error)  # when the file is shown, it is counted
