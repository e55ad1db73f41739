"""Runs the stage `nifti`, which makes PNG files of the slices of NIfTI files.

Neither names of files nor texts of headers are written, as both may name a patient.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hardset.checks import require
from hardset.folder import Input, Manifest, Stage
from hardset.progress import bar
from pretrain_jax.data.grey import check_window
from pretrain_jax.data.nifti import AXES, Nifti, opened_nifti, pair_of, voxel_hash
from pretrain_jax.data.options import reading
from pretrain_jax.synthesis.importing.writing import (
    Part,
    Unit,
    check_share,
    files_below,
    reason_of,
    run_import,
    write_image,
)
from pretrain_jax.synthesis.source import check_outside

IMPORT = Stage(
    "nifti",
    inputs=("source",),
    parameters=("axis", "window", "keep_empty", "max_megapixels"),
)
SAME = "another file has the same voxels"
EMPTY = "all its slices are empty"
Window = tuple[float, float] | None


def import_nifti(
    source: str | Path,
    out: str | Path,
    *,
    axis: str = "axial",
    window: Window = None,
    keep_empty: bool = False,
    skip_at_most: float | None = None,
    progress: bool = False,
) -> Manifest:
    """Make PNG files and an image list of the slices of NIfTI files.

    The groups of the list are files. Names and groups are hashes of the voxels, so that a
    compressed copy has the same ones; of a file with several volumes the volume's number follows,
    and then the slice's. Files are told by content, whatever their names are. `images.txt` in `out`
    is a source of images for all commands, and `spacing.csv` has the distances of rows, columns
    and slices.

    Slices are turned as `pretrain_jax.data.nifti.Nifti.slices` says. Empty ones, of which less than
    1 % is shown brighter than 25 of 255, are left out and counted.

    Args:
        source: a folder, which is searched recursively, or a file.
        out: the stage's folder.
        axis: axial, coronal or sagittal, or its number in the canonical orientation: 2, 1 or 0.
        window: centre and width of a window of the kind LINEAR of DICOM; by default each volume is
            shown from its percentile 0.5 to 99.5.
        keep_empty: keep empty slices.
        skip_at_most: the share of the files that may give no image, in [0, 1]; None for any.
        progress: whether to draw a progress bar.

    Returns:
        The manifest with the counts files, images, groups, volumes, empty (slices), unknown (voxels
        that are NaN or infinite), unoriented (files) and skipped.

    Raises:
        ValueError: no file gives an image, too many give none, or an argument is out of range;
            says which.
        OSError: a folder cannot be read or written.
    """
    require("nibabel", "medical")
    check_window(window)
    check_share(skip_at_most)
    number = axis_number(axis)
    root = Path(source)
    check_outside(source, out)
    paths = _files(root)
    part, found = _identified(paths, progress)
    # Of what is in the files, without their names.
    content = hashlib.sha256(repr([sorted(found), sorted(part.skipped.items())]).encode())
    work = IMPORT.open(
        out,
        {
            "axis": number,
            "window": None if window is None else list(window),
            "keep_empty": keep_empty,
            "max_megapixels": reading().max_megapixels,
        },
        None,
        {"source": Input(content.hexdigest())},
    )
    units = [
        Unit(
            key,
            1,
            partial(_make, key=key, path=path, axis=number, window=window, keep_empty=keep_empty),
        )
        for key, path in sorted(found.items())
    ]
    return run_import(
        work,
        len(paths),
        lambda: (part, units),
        _counts,
        _noted,
        skip_at_most=skip_at_most,
        progress=progress,
    )


def axis_number(axis: str) -> int:
    """Return the number of an axis in the canonical orientation.

    Raises:
        ValueError: it is neither a name of `AXES` nor one of their numbers.
    """
    numbers = AXES | {str(number): number for number in AXES.values()}
    if axis not in numbers:
        raise ValueError(f"axis = {axis!r}: choose one of {', '.join(numbers)}")
    return numbers[axis]


def _files(root: Path) -> list[Path]:
    """Find the files, without those of voxels that belong to a header beside them."""
    paths = files_below(root)
    voxels = {other for path in paths if (other := pair_of(path)) is not None}
    return [path for path in paths if path not in voxels]


def _identified(paths: Sequence[Path], progress: bool) -> tuple[Part, dict[str, Path]]:
    """Read all files, and find those that give images by the hashes of their voxels."""
    part = Part()
    found: dict[str, Path] = {}
    with bar(len(paths), "reading", "file", shown=progress) as done:
        for path in paths:
            try:
                key = voxel_hash(path)
                part.skipped[SAME] += key in found
                found.setdefault(key, path)
            except (ValueError, OSError) as error:
                part.skipped[reason_of(error)] += 1
            done.update(1)
    part.skipped = +part.skipped
    return part, found


def _make(out: Path, key: str, path: Path, axis: int, window: Window, keep_empty: bool) -> Part:
    part = Part()
    try:
        with opened_nifti(path, out) as nifti:
            for volume in range(nifti.voxels.shape[-1]):
                _add_volume(part, nifti, out, key, volume, axis, window, keep_empty)
            part.counts.update(volumes=nifti.voxels.shape[-1], unoriented=not nifti.oriented)
    except (ValueError, OSError) as error:
        return Part(skipped=Counter({reason_of(error): 1}))
    if not part.rows:
        part.skipped[EMPTY] += 1
    return part


def _add_volume(
    part: Part,
    nifti: Nifti,
    out: Path,
    key: str,
    volume: int,
    axis: int,
    window: Window,
    keep_empty: bool,
) -> None:
    name = f"{key}-t{volume:04d}" if nifti.several else key
    for found in nifti.slices(volume, axis, window):
        part.counts["unknown"] += found.unknown
        if found.empty and not keep_empty:
            part.counts["empty"] += 1
            continue
        row = write_image(
            out,
            f"{name}-{found.number:05d}",
            found.pixels,
            folder=key,
            group=key,
            order=(key, volume, found.number),
            spacing=nifti.plane_spacing(axis),
        )
        part.rows.append(row)


def _counts(whole: Part) -> dict[str, int]:
    names = ("volumes", "empty", "unknown", "unoriented")
    groups = len({row.group for row in whole.rows})
    return {"groups": groups} | {name: whole.counts[name] for name in names}


def _noted(counts: dict[str, int]) -> list[str]:
    notes = []
    if counts["empty"]:
        notes.append(
            f"{counts['empty']} slice(s) are empty and left out: less than 1 % of each is shown "
            "brighter than 25 of 255; keep_empty keeps them."
        )
    if counts["unknown"]:
        notes.append(f"{counts['unknown']} voxel(s) are NaN or infinite, and black.")
    if counts["unoriented"]:
        notes.append(
            f"{counts['unoriented']} file(s) do not say how they lie in the patient; x is taken to "
            "go to the left, so that left and right may be confused."
        )
    return notes
