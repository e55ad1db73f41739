"""A figure's files: data computed once and reused, pictures drawn from the data file alone."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr
from matplotlib import rc_context

from figures.settings import BaseSettings
from figures.spec import FigureSpec
from figures.style import STYLE
from hardset.datafile import (
    DataFileError,
    check_output_file,
    parameters_of,
    read_dataset,
    write_bytes_atomic,
    write_dataset,
)

__all__ = ["check_data", "check_pictures", "make_data", "make_pictures", "render"]

# Dates and versions would make equal pictures differ.
_METADATA: dict[str, tuple[str, dict[str, None]]] = {
    "png": ("Description", {"Software": None}),
    "pdf": ("Subject", {"CreationDate": None, "Creator": None, "Producer": None}),
    "svg": ("Description", {"Date": None}),
}


def data_path(spec: FigureSpec, folder: Path) -> Path:
    """Where a figure's data lie in `folder`."""
    return folder / f"{spec.name}.nc"


def picture_path(spec: FigureSpec, folder: Path, name: str) -> Path:
    """Where a figure's picture in the format `name` lies in `folder`."""
    return folder / f"{spec.name}.{name}"


def check_data(spec: FigureSpec, settings: BaseSettings, folder: Path) -> bool:
    """Check what lies under the name of a figure's data file, or that it can be written.

    Args:
        spec: the figure.
        settings: what the data must have been computed from.
        folder: output folder.

    Returns:
        Whether the data are there already.

    Raises:
        ValueError: data of other parameters, with the first parameter that differs.
        hardset.datafile.DataFileError: a damaged or foreign file under the data file's name.
        OSError: the file cannot be written.
    """
    path = check_output_file(data_path(spec, folder))
    if not path.exists():
        return False
    dataset = read_dataset(path, kind=spec.kind)
    with _complete(path):
        found = parameters_of(dataset)
    wanted = spec.parameters(settings)
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name not in found or name not in wanted:
            raise ValueError(
                f"data file {path} is of another version of this figure, "
                f"{'with' if name in found else 'without'} the parameter {name}; choose another "
                "--out, or delete the file"
            )
        if found[name] != wanted[name]:
            raise ValueError(
                f"data file {path} was computed with {name} = {found[name]}, not "
                f"{wanted[name]}; choose another --out, or delete the file"
            )
    return True


def check_pictures(spec: FigureSpec, folder: Path, formats: Iterable[str]) -> None:
    """Raise OSError where a figure's picture could not be written."""
    for name in formats:
        check_output_file(picture_path(spec, folder, name))


def make_data(spec: FigureSpec, settings: BaseSettings, folder: Path, *, progress: bool) -> Path:
    """Compute the figure's data file, or keep the one that is there.

    Args:
        spec: the figure.
        settings: its settings.
        folder: output folder; finished simulation cells are kept in its subfolder `cells` and
            shared by all figures.
        progress: show a progress bar.

    Returns:
        The data file's path.

    Raises:
        ValueError: see `check_data`; also where another process wrote such data meanwhile.
        OSError: the data cannot be written; names the file.
    """
    path = data_path(spec, folder)
    if check_data(spec, settings, folder):
        return path
    dataset = spec.compute(settings, cache=folder / "cells", progress=progress)
    try:
        write_dataset(
            dataset, path, kind=spec.kind, parameters=spec.parameters(settings), replace=False
        )
    except FileExistsError:
        # Another process was faster: equal data are as good, others stay.
        try:
            check_data(spec, settings, folder)
        except ValueError as error:
            raise ValueError(
                f"another process wrote {path} while this one computed; the simulated cells are "
                f"kept in {folder / 'cells'}: {error}"
            ) from None
    return path


def make_pictures(
    spec: FigureSpec, data: Path, folder: Path, formats: Iterable[str]
) -> tuple[list[Path], str]:
    """Draw a data file.

    Args:
        spec: the figure.
        data: its data file.
        folder: where the pictures go, as NAME.FORMAT.
        formats: some of FORMATS.

    Returns:
        The pictures' paths, and the caption.

    Raises:
        hardset.datafile.DataFileError: the file is damaged, foreign or lacks something.
        OSError: a picture cannot be written; names it.
    """
    dataset = read_dataset(data, kind=spec.kind)
    with _complete(data):
        words = caption(spec, dataset)
        pictures = {
            picture_path(spec, folder, name): render(spec, dataset, name) for name in formats
        }
    for path, picture in pictures.items():
        write_bytes_atomic(path, picture)
    return list(pictures), words


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """Turn the want of a variable or attribute into a sentence about the data file."""
    try:
        yield
    except KeyError as error:
        lacking = str(error.args[0]).splitlines()[0]
        raise DataFileError(
            f"data file {path} is incomplete, or of another version of this figure: {lacking}; "
            "compute it again in another --out"
        ) from None


def caption(spec: FigureSpec, dataset: xr.Dataset) -> str:
    """The figure's caption, with the size of the simulation where there is one."""
    found = parameters_of(dataset)
    words = spec.caption(dataset)
    return f"{words} N = {found['dim']}, {found['draws']} draws." if "dim" in found else words


def render(spec: FigureSpec, dataset: xr.Dataset, file_format: str) -> bytes:
    """The picture of a dataset read from its file, as the bytes of a `file_format` file."""
    key, metadata = _METADATA[file_format]
    buffer = io.BytesIO()
    with rc_context(STYLE):
        spec.draw(dataset).savefig(
            buffer, format=file_format, metadata={**metadata, key: caption(spec, dataset)}
        )
    return buffer.getvalue()
