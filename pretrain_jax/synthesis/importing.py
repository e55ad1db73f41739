"""Runs the stage `dicom`, which makes PNG files and an image list of DICOM files.

Neither names of files nor anything that is written identifies a patient. What is burned into the
pixels stays there.
"""

import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hardset.checks import require
from hardset.folder import Input, Made, Manifest, Stage
from hardset.progress import bar
from pretrain_jax.data.dicom import (
    DicomImages,
    check_window,
    is_dicom,
    project_salt,
    read_dicom,
    salted_hash,
)
from pretrain_jax.data.listing import list_line, write_list
from pretrain_jax.data.opening import regular_file
from pretrain_jax.data.options import reading
from pretrain_jax.pictures import write_png
from pretrain_jax.synthesis.source import check_outside

IMPORT = Stage(
    "dicom",
    inputs=("source", "salt"),
    parameters=("window", "refuse_burned_in", "files", "max_megapixels"),
)
IMAGES, LIST = "images", "images.txt"
BURNED_IN = "BurnedInAnnotation says that the pixels show who the patient is"
OTHER = "it is no DICOM file"
SEVERAL = "another file has the same SOPInstanceUID"
SHOWN = 10


def import_dicom(
    source: str | Path,
    out: str | Path,
    *,
    salt: str | Path,
    window: tuple[float, float] | None = None,
    refuse_burned_in: bool = False,
    progress: bool = False,
) -> Manifest:
    """Make PNG files and an image list of a folder of DICOM files.

    The groups of the list are patients. Files are told by content, whatever their names are.
    `images.txt` in `out` is a source of images for all commands. In it come the series one after
    another, and the slices of a series in the order of their positions. What is no image is counted
    by its reason, and not by its name, which often is that of a patient.

    Args:
        source: a folder, which is searched recursively, or a file.
        out: the stage's folder.
        salt: file of the project's salt, outside `out`, see `pretrain_jax.data.dicom.project_salt`.
        window: centre and width, see `pretrain_jax.data.dicom.read_dicom`.
        refuse_burned_in: leave out images whose file says that its pixels identify the patient.
        progress: whether to draw a progress bar.

    Returns:
        The manifest with the counts files, images, patients, ungrouped, burned_in and skipped.

    Raises:
        ValueError: no file gives an image, or an argument is out of range; says which.
        OSError: a folder cannot be read or written.
    """
    require("pydicom", "medical")
    check_window(window)
    root = Path(source)
    if not root.exists():
        raise ValueError(f"DICOM source {source} does not exist; give a folder or a file")
    check_outside(source, out)
    key = project_salt(salt, out)
    paths = sorted(_files(root))
    listed = hmac.new(key, digestmod=hashlib.sha256)
    for path in paths:
        listed.update(os.fsencode(os.path.relpath(path, root)) + b"\0%d\n" % path.stat().st_size)
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

    def fill(_: object) -> Made:
        return _fill(Path(out), paths, key, window, refuse_burned_in, progress)

    return work.run(fill)


def _files(root: Path) -> Iterator[Path]:
    """Find the files of a folder that are not hidden.

    Links to folders are not followed.
    """
    if not root.is_dir():
        yield root
    for folder, folders, names in os.walk(root):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _fill(
    out: Path,
    paths: list[Path],
    salt: bytes,
    window: tuple[float, float] | None,
    refuse_burned_in: bool,
    progress: bool,
) -> Made:
    lines: list[tuple[str, str, float, str, str]] = []
    groups: set[str] = set()
    known: set[str] = set()
    skipped: Counter[str] = Counter()
    ungrouped = burned_in = 0
    with bar(len(paths), "import-dicom", "file", shown=progress) as done:
        for path in paths:
            found = _read(path, salt, window)
            done.update(1)
            if isinstance(found, str):
                skipped[found] += 1
                continue
            burned_in += found.burned_in
            if found.burned_in and refuse_burned_in:
                skipped[BURNED_IN] += 1
                continue
            if found.ids[0] in known:
                skipped[SEVERAL] += 1
                continue
            known.add(found.ids[0])
            groups.add(found.group)
            for name, pixels in zip(found.ids, found.pixels, strict=True):
                own = "/".join(part for part in (IMAGES, found.series, f"{name}.png") if part)
                write_png(out / own, pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
                line = list_line(own, found.group)
                lines.append((found.group, found.series, found.position, name, line))
            ungrouped += 0 if found.group else len(found.ids)
    reasons = [f"{count} file(s): {reason}" for reason, count in skipped.most_common(SHOWN)]
    if not lines:
        raise ValueError(
            f"none of the {len(paths)} file(s) gives an image: {'; '.join(reasons) or 'no file'}"
        )
    write_list(out / LIST, (line for *_, line in sorted(lines)))
    counts = {
        "files": len(paths),
        "images": len(lines),
        "patients": len(groups - {""}),
        "ungrouped": ungrouped,
        "burned_in": burned_in,
        "skipped": skipped.total(),
    }
    notes = [f"skipped {one}" for one in reasons]
    if burned_in and not refuse_burned_in:
        notes.append(
            f"{burned_in} file(s) say that their pixels show who the patient is; "
            "refuse_burned_in leaves them out."
        )
    return Made(counts, notes)


def _read(path: Path, salt: bytes, window: tuple[float, float] | None) -> DicomImages | str:
    """Read a file, or say in words that identify nobody why it gives no image."""
    try:
        with regular_file(path) as file:
            if not is_dicom(file):
                return OTHER
        return read_dicom(path, salt, window=window)
    except ValueError as error:
        return str(error)
    except OSError as error:
        return error.strerror or type(error).__name__
